"""What a handler receives from: its mail, its events, both, or the mail of one topic."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from ...kernel.wire.errors import Invalid


class Stream(Enum):
    """What a handler receives from."""

    INBOX = "inbox"
    EVENTS = "events"
    BOTH = "both"


class Topic(NamedTuple):
    """The mail of one topic, while the handler listens to it."""

    name: str


class NotListening(Invalid):
    """The handler does not listen to this topic, or not any more."""
