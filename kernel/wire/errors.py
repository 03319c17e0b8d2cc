"""Errors that cross the wire or that users catch.

`ProcessError` and its subclasses are the caller's side of the contract: raised in the process that made the call, with a
message that says what to do. `ProtocolViolation` is the other side's fault: bytes that no live, honest peer would write.
"""

from __future__ import annotations


class ProcessError(Exception):
    """A call of the process API failed. `code` is the error's name on the wire."""

    code = "ProcessError"


class NotFound(ProcessError):
    """The name, the entry, the host or the process does not exist (S3, S8)."""

    code = "NotFound"


class Invalid(ProcessError):
    """An argument is malformed, reserved, or cannot be carried (S9, S50)."""

    code = "Invalid"


class NoProc(ProcessError):
    """Linking to a process that is dead, by a caller that does not trap links (S24)."""

    code = "NoProc"


class AlreadyExists(ProcessError):
    """The name is taken; `pid` is its holder's (S5, S32)."""

    code = "AlreadyExists"

    def __init__(self, message: str, pid: str | None = None) -> None:
        super().__init__(message)
        self.pid = pid


class NotPermitted(ProcessError):
    """Only the owner may do this (S32)."""

    code = "NotPermitted"


class LimitExceeded(ProcessError):
    """A limit of the configuration or of the wire is reached: a full host, an oversized message (S3, S10)."""

    code = "LimitExceeded"


class Timeout(ProcessError):
    """What was waited for did not come in time."""

    code = "Timeout"


class ChannelLost(ProcessError):
    """This process has no channel to the runtime: a forked child, or a runtime that has ended (S11)."""

    code = "ChannelLost"


BY_CODE: dict[str, type[ProcessError]] = {
    error.code: error
    for error in (
        ProcessError, NotFound, Invalid, NoProc, AlreadyExists, NotPermitted, LimitExceeded, Timeout, ChannelLost,
    )
}  # fmt: skip


class ProtocolViolation(Exception):
    """The peer wrote bytes that are no frame, or a frame that is not its to write (S11)."""
