"""What keeps the runtime from starting."""

from __future__ import annotations


class StartError(Exception):
    """The configuration asks for something that cannot be had here: what, and why."""
