"""What a handler receives: messages and events, as frozen dataclasses made for `match`.

Knows how a reason is spelt on the wire; knows nothing of queues.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ...kernel.wire.errors import ProcessError
from ...kernel.wire.pid import Pid
from ...kernel.wire.reason import CANCELLED, NORMAL, WireReason
from .packing import unpack


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a process ended (S18)."""

    kind: str
    """`normal`, `cancelled`, `exception`, `exit:3`, `signal:SIGKILL`, `killed`, `noproc`, …: the table of S18."""
    detail: str = ""
    """One line for people."""
    value: Any = None
    """What the handler returned, if the exit was clean."""
    error: str | None = None
    """The traceback or a description; None exactly when the exit was clean."""
    origin: Pid | None = None
    """The process whose death came down a link; None for a death of one's own (S25)."""

    @property
    def clean(self) -> bool:
        """Whether the exit propagates nothing over links."""
        return self.kind in (NORMAL, CANCELLED)

    def __str__(self) -> str:
        return f"{self.kind}: {self.detail}" if self.detail else self.kind


@dataclass(frozen=True, slots=True)
class Message:
    """Mail from a process. The runtime vouches for `sender` (S9)."""

    topic: str
    payload: Any
    sender: Pid


_new = object.__new__
_set_topic, _set_payload, _set_sender = (getattr(Message, name).__set__ for name in ("topic", "payload", "sender"))


def make_message(topic: str, payload: Any, sender: Pid) -> Message:
    """Return a Message. What `Message(…)` does, in two thirds of its time: a frozen dataclass fills its fields one by one
    through `object.__setattr__`."""
    message: Message = _new(Message)
    _set_topic(message, topic)
    _set_payload(message, payload)
    _set_sender(message, sender)
    return message


@dataclass(frozen=True, slots=True)
class Exit:
    """A monitored process ended (S19); `ref` is what `monitor` returned."""

    sender: Pid
    ref: int
    reason: Reason


@dataclass(frozen=True, slots=True)
class LinkDown:
    """A linked process ended abnormally, and this one traps links (S25)."""

    sender: Pid
    reason: Reason


@dataclass(frozen=True, slots=True)
class Cancel:
    """`sender` asks this process to end (S29)."""

    sender: Pid
    reason: Reason


@dataclass(frozen=True, slots=True)
class GroupJoined:
    """A watched group has a new member (S33); `ref` is what `groups.watch` returned."""

    group: str
    member: Pid
    ref: int


@dataclass(frozen=True, slots=True)
class GroupLeft:
    """A watched group has lost a member: it left, or ended (S33)."""

    group: str
    member: Pid
    ref: int


Event = Exit | LinkDown | Cancel | GroupJoined | GroupLeft
Item = Message | Event


class ExitError(ProcessError):
    """What `exec` ran did not return: it ended for another `reason` (S34)."""

    code = "ExitError"

    def __init__(self, message: str, reason: Reason) -> None:
        super().__init__(message)
        self.reason = reason


def reason_from_wire(wire: WireReason) -> Reason:
    """Return the user's form of a reason. A value that nobody can unpack is None."""
    value = None
    if wire.value is not None:
        try:
            value = unpack(wire.value)
        except ValueError:
            value = None
    return Reason(wire.kind, wire.detail, value, wire.error, None if wire.origin is None else Pid(wire.origin))


def cancel_reason(grace: int | None) -> Reason:
    """Return the reason of a Cancel whose grace is in milliseconds."""
    return Reason(CANCELLED, "asked to end" if grace is None else f"asked to end within {grace} ms")
