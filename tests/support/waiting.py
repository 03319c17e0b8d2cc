"""Waiting without sleeping: the kit's."""

from __future__ import annotations

from wsrelay.tools.faults.waiting import STEP, TIMEOUT, wait_until, wait_until_async

__all__ = ["STEP", "TIMEOUT", "wait_until", "wait_until_async"]
