"""The relay session of one connection: from its admission to its end (S45 to S56).

Owns what a target may see (join, messages, heartbeats, leave, in that order) and which close code and exit reason the end
has. Knows nothing of sockets, frames or clocks: `handle(event)` is the only way to change it, and returns the effects.

    OPEN ──close wanted by us──▶ CLOSING ──client's Close, cut line or timeout──▶ ENDED
     │ └─────────client's Close, cut line──────────────────────────────────────────▶┘
     │ ▲
     ▼ │ the service has its name again
    HELD ──as from OPEN, or the hold is over──▶ CLOSING, ENDED

A transfer cuts the stream at a message: while it is `cut`, the owner decodes nothing more of the client's, so what waits
are undecoded bytes, and reading pauses. The old target's death waits for the outcome (S48).

While HELD there is no target (S56): what the client sends is decoded and kept in the `backlog`. When there is a target again
its join and the backlog go first: the owner decodes nothing until it has taken all of it, as fast as the target reads.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from ...kernel.wire.hold import Hold
from ...kernel.wire.messages import ClientMessage, ControlError, Heartbeat, Join, Leave
from ...kernel.wire.pid import looks_like_pid
from ...kernel.wire.reason import CANCELLED, WireReason, make_reason
from . import session_events as e
from .endings import close_code, exit_reason
from .holding import Backlog, HeldBytes
from .session_events import Effect, Event, Stream, Target
from .transfers import Transfers

ANSWER_TIME: Final = 0.1
"""Seconds between a client's violation and our Close: it had sent messages before, which are answered by another process."""


class Phase(enum.Enum):
    """Where the connection stands."""

    OPEN = enum.auto()
    HELD = enum.auto()
    CLOSING = enum.auto()
    ENDED = enum.auto()


_OPEN: Final = Phase.OPEN  # an enumeration's members are slow to look up


class Session:
    """One admitted connection."""

    def __init__(
        self,
        serial: int,
        pid: str,
        target: Target,
        stream: Stream,
        hold: Hold | None = None,
        held_bytes: HeldBytes | None = None,
    ) -> None:
        """`serial` is the connection's, as in its PID; `held_bytes` is shared with all that may be held."""
        self.serial = serial
        self.pid = pid
        self.target = target
        self.stream = stream
        self.phase = Phase.OPEN
        self.backlog: Backlog | None = None
        """What goes to the target before anything else is decoded: `take_backlog`. None if there is nothing."""
        self.message_count = 0
        self._opened_at = 0.0
        self._workers: dict[int, None] = {target.worker: None}
        """All that were sent something of this connection's."""
        self.transfers = Transfers()
        """Those that the target has asked for. Their owner is the session."""
        self._death: e.TargetEnded | None = None
        self._joined = False
        self._hold = hold
        self._held_bytes = held_bytes or HeldBytes()
        self._leave = ("connection_lost", None)  # type: tuple[str, int | None]
        self.closer = "process"
        """Who wanted the close, where the reason of the leave does not say it: `process`, `target` or `gateway`."""
        self._exit: WireReason | None = None
        self._failure: e.ProtocolFailed | None = None
        """What the client did wrong, while its target has time to answer."""

    @property
    def is_open(self) -> bool:
        """Whether messages go to the client."""
        return self.phase is Phase.OPEN or self.phase is Phase.HELD

    @property
    def cut(self) -> bool:
        """Whether the client's stream is cut: no message of the client may be handed over now (S47)."""
        return self.transfers.pending is not None

    @property
    def bound_to(self) -> int | None:
        """The worker that the client's messages go to; None while the connection is held, and when it has ended."""
        return self.target.worker if self.phase is Phase.OPEN or self.phase is Phase.CLOSING else None

    @property
    def target_lives(self) -> bool:
        """Whether the current target is not known to be dead."""
        return self._death is None

    @property
    def ending(self) -> tuple[str, int | None]:
        """The reason and the code of the leave, as they stand (S45)."""
        return self._leave

    def handle(self, event: Event) -> list[Effect]:
        """Change state and return what is to be done, in order."""
        if self.phase is Phase.ENDED:
            return []
        return _HANDLERS[type(event)](self, event)

    def accept_messages(self, count: int) -> int | None:
        """Count some of the client's messages and return the worker that they are for; None if the connection is not open (S46).

        The same as handling `MessageReceived` then, without the objects: messages are what happens most.
        """
        if self.phase is not _OPEN:
            return None
        if self.transfers.pending is not None:
            raise RuntimeError("a message was decoded while the stream is cut")
        self.message_count += count
        return self.target.worker

    def take_backlog(self) -> tuple[int, Join | ClientMessage]:
        """Return what goes to the target next, and its worker. Only while there is a backlog, and the stream is not cut."""
        if self.phase is not Phase.OPEN or self.backlog is None or self.cut:
            raise RuntimeError("there is no backlog that a target could have now")
        record = self.backlog.take()
        self._joined = True
        if self.backlog.is_empty:
            self.backlog = None
        return self.target.worker, record

    # --- the stream ---------------------------------------------------------------------------------------------------

    def _opened(self, event: e.Opened) -> list[Effect]:
        self._opened_at = event.now
        return self._join()

    def _join(self) -> list[Effect]:
        self._joined = True
        send = e.SendToWorker(self.target.worker, self._new_join(resumed=False))
        return [send, e.SetHeartbeat(self.stream.heartbeat)]

    def _new_join(self, *, resumed: bool) -> Join:
        stream = self.stream
        return Join(self.serial, self.pid, stream.topic, stream.metadata, resumed, stream.trace)

    def _message_received(self, event: e.MessageReceived) -> list[Effect]:
        if self.phase is Phase.HELD:
            return self._keep(event.data)
        worker = self.accept_messages(1)
        return [] if worker is None else [e.SendToWorker(worker, ClientMessage(self.serial, event.data))]

    def _heartbeat_due(self, event: e.HeartbeatDue) -> list[Effect]:
        if self.phase is not Phase.OPEN or event.waiting or self._death is not None or not self._joined:
            return []
        beat = Heartbeat(self.serial, event.now - self._opened_at, self.message_count)
        return [e.SendToWorker(self.target.worker, beat)]

    # --- transfers ----------------------------------------------------------------------------------------------------

    def _control_requested(self, event: e.ControlRequested) -> list[Effect]:
        if not self.is_open:
            return [self._refuse(event, "the connection is closing")]
        if not self.cut:
            return self._begin_transfer(event)
        if not self.transfers.wait(event):
            return [self._refuse(event, "too many transfers of this connection are waiting")]
        return []

    def _begin_transfer(self, event: e.ControlRequested) -> list[Effect]:
        if event.sender != self.target or self.phase is Phase.HELD:
            return [self._refuse(event, "only the current target may transfer a connection")]
        self.transfers.pending = event
        return [e.RequestRetarget(event.target)]

    def _refuse(self, event: e.ControlRequested, error: str) -> Effect:
        self._workers[event.sender.worker] = None  # a stranger too: what it is sent comes before it sees our end (S14)
        return e.SendToWorker(event.sender.worker, ControlError(self.pid, event.target, error))

    def _retarget_granted(self, event: e.RetargetGranted) -> list[Effect]:
        transfer = self.transfers.finish()
        if transfer is None:  # the connection began to close meanwhile
            return []
        effects: list[Effect] = []
        if self._death is None and self._joined:
            effects.append(e.SendToWorker(self.target.worker, Leave(self.serial, "transferred", None)))
        self._death = None
        self._forget_join()
        if self._hold is not None:
            self._hold = None if looks_like_pid(transfer.target) else replace(self._hold, name=transfer.target)
        self.target = event.target
        self._workers[event.target.worker] = None
        old = self.stream
        self.stream = Stream(
            old.topic if transfer.topic is None else transfer.topic,
            old.metadata if transfer.metadata is None else transfer.metadata,
            old.heartbeat if transfer.heartbeat is None else transfer.heartbeat,
            old.trace,
        )
        return effects + self._join() + self._next_transfer()

    def _retarget_refused(self, event: e.RetargetRefused) -> list[Effect]:
        transfer = self.transfers.finish()
        if transfer is None:
            return []
        return [self._refuse(transfer, event.error), *self._next_transfer()]

    def _next_transfer(self) -> list[Effect]:
        effects: list[Effect] = []
        while (waiting := self.transfers.take_waiting()) is not None:
            effects += self._begin_transfer(waiting)
        if not self.cut and self._death is not None:
            effects += self._follow_death(self._death)
        return effects

    # --- holding (S56) ------------------------------------------------------------------------------------------------

    def _follow_death(self, death: e.TargetEnded) -> list[Effect]:
        if not death.restarting or self._hold is None:
            return self._close_for(death)
        self.phase = Phase.HELD
        self._forget_join()
        return [e.SetHeartbeat(0.0), e.AwaitService(self._hold.name), e.SetHold(self._hold.seconds)]

    def _keep(self, data: str | bytes) -> list[Effect]:
        if self.backlog is None:
            self.backlog = self._new_backlog()
        self.message_count += 1
        if self.backlog.keep(ClientMessage(self.serial, data)):
            return []
        self.closer = "gateway"
        return self._close("closed", 1013, "too many messages for a service that restarts")

    def _new_backlog(self) -> Backlog:
        return Backlog(self._hold.bytes if self._hold is not None else 0, self._held_bytes)

    def _service_returned(self, event: e.ServiceReturned) -> list[Effect]:
        if self.phase is not Phase.HELD:
            return []
        self.phase = Phase.OPEN
        self._death = None
        del self._workers[self.target.worker]
        self._workers[event.target.worker] = None
        self.target = event.target
        self._joined = False
        if self.backlog is None:
            self.backlog = self._new_backlog()
        self.backlog.join = self._new_join(resumed=True)
        return [e.SetHold(0.0), e.SetHeartbeat(self.stream.heartbeat)]

    def _service_gone(self, _: e.ServiceGone) -> list[Effect]:
        if self.phase is not Phase.HELD or self._death is None:
            return []
        return self._close_for(replace(self._death, restarting=False))

    def _hold_expired(self, _: e.HoldExpired) -> list[Effect]:
        return self._close_for(self._death) if self.phase is Phase.HELD and self._death is not None else []

    def _forget_join(self) -> None:
        """The target that was to be joined has not been, and will not be."""
        if self.backlog is not None:
            self.backlog.join = None
            if self.backlog.is_empty:
                self.backlog = None

    def _drop_backlog(self) -> None:
        if self.backlog is not None:
            self.backlog.clear()
            self.backlog = None

    # --- the end ------------------------------------------------------------------------------------------------------

    def _target_ended(self, event: e.TargetEnded) -> list[Effect]:
        if event.pid != self.target.pid:
            return []
        self._death = event
        if self.phase is Phase.OPEN and not self.cut:
            return self._follow_death(event)
        return []

    def _close_for(self, death: e.TargetEnded) -> list[Effect]:
        if self.is_open:
            self.closer = "target"
        return self._close("closed", close_code(death), death.reason.kind)

    def _close(self, leave: str, code: int, text: str, exit_reason: WireReason | None = None) -> list[Effect]:
        """Begin the close handshake. The first cause stands (S12)."""
        if not self.is_open:
            return []
        self.phase = Phase.CLOSING
        self._drop_backlog()
        self.transfers.clear()
        self._leave = (leave, code)
        self._exit = exit_reason
        return [e.SetHeartbeat(0.0), e.SendClose(code, text), e.AwaitClose()]

    def _close_received(self, event: e.CloseReceived) -> list[Effect]:
        if self.phase is Phase.CLOSING:
            return self._end(completed=True)
        self._leave = ("client_closed", event.code)
        return [e.SetHeartbeat(0.0), e.SendClose(event.code, event.reason), *self._end(completed=True)]

    def _half_closed(self, _: e.HalfClosed) -> list[Effect]:
        if self._failure is None:
            return []
        # No answer could go out after the line has closed: there is nothing to wait for.
        return self._protocol_failed(replace(self._failure, waited=True))

    def _connection_lost(self, _: e.ConnectionLost) -> list[Effect]:
        if self._failure is not None:  # that is what ended it, though nobody was told yet
            self._protocol_failed(replace(self._failure, waited=True))
        return [e.SetHeartbeat(0.0), *self._end(completed=False)]

    def _close_timed_out(self, _: e.CloseTimedOut) -> list[Effect]:
        return self._end(completed=False) if self.phase is Phase.CLOSING else []

    def _end(self, *, completed: bool) -> list[Effect]:
        was_closing = self.phase is Phase.CLOSING
        self.phase = Phase.ENDED
        self._drop_backlog()
        self.transfers.clear()
        effects: list[Effect] = []
        reason, code = self._leave
        if self._death is None and self._joined:
            effects.append(e.SendToWorker(self.target.worker, Leave(self.serial, reason, code)))
        end = self._exit or exit_reason(code if completed or was_closing else 1006, completed)
        return [*effects, e.ReportEnd(end, tuple(self._workers)), e.Disconnect(abort=not completed)]

    def _protocol_failed(self, event: e.ProtocolFailed) -> list[Effect]:
        if self.phase is Phase.CLOSING:  # its Close will not be understood any more: only the end of its line
            return [e.AwaitClose()]
        if self.phase is Phase.OPEN and self.message_count and not event.waited:
            # The target is about to answer what came before, and after our Close nothing of that goes out.
            self._failure = event
            return [e.AwaitAnswers(ANSWER_TIME, replace(event, waited=True))]
        return self._close("too_big" if event.code == 1009 else "protocol_error", event.code, event.reason)

    def _ping_timed_out(self, _: e.PingTimedOut) -> list[Effect]:
        return self._close("timeout", 1011, "ping timeout")

    def _client_too_slow(self, _: e.ClientTooSlow) -> list[Effect]:
        return self._close("slow_client", 1013, "slow client")

    def _target_too_slow(self, _: e.TargetTooSlow) -> list[Effect]:
        return self._close("timeout", 1013, "slow target")

    def _close_requested(self, event: e.CloseRequested) -> list[Effect]:
        return self._close("closed", event.code, event.reason)

    def _cancel_requested(self, _: e.CancelRequested) -> list[Effect]:
        return self._close("cancelled", 1001, "cancelled", make_reason(CANCELLED))

    def _shutdown_started(self, event: e.ShutdownStarted) -> list[Effect]:
        return self._close("shutdown", event.code, "shutdown")

    def _end_requested(self, event: e.EndRequested) -> list[Effect]:
        effects = self._close("terminated", 1011, event.reason.kind, event.reason)
        # A connection that was closing already ends with this reason all the same: terminate is unconditional (S30).
        self._exit = event.reason
        self._leave = ("terminated", self._leave[1])
        return effects

    def check_invariants(self) -> None:
        """Raise AssertionError if the state contradicts itself."""
        self.transfers.check_invariants()
        if self.phase is not Phase.OPEN and self.cut:
            raise AssertionError("a transfer is pending on a connection that closes")
        if self.phase is Phase.OPEN and self._death is not None and not self.cut:
            raise AssertionError("open without a living target")
        if self.phase is Phase.HELD and (self._death is None or self.cut or self._hold is None):
            raise AssertionError("held for no target, or while a transfer is pending")
        if self.backlog is not None:
            self.backlog.check_invariants()
            if self.backlog.is_empty or not self.is_open:
                raise AssertionError("a backlog of nothing, or for nobody")
            if self.backlog.join is not None and (self._joined or self.phase is not Phase.OPEN):
                raise AssertionError("a join waits for a target that has joined, or that is not there")
        if self.target.worker not in self._workers:
            raise AssertionError("the target's worker has no mark")


_HANDLERS: Final[dict[type, Callable[[Session, Any], list[Effect]]]] = {
    e.Opened: Session._opened,
    e.MessageReceived: Session._message_received,
    e.CloseReceived: Session._close_received,
    e.ProtocolFailed: Session._protocol_failed,
    e.HalfClosed: Session._half_closed,
    e.ConnectionLost: Session._connection_lost,
    e.CloseTimedOut: Session._close_timed_out,
    e.PingTimedOut: Session._ping_timed_out,
    e.ClientTooSlow: Session._client_too_slow,
    e.TargetTooSlow: Session._target_too_slow,
    e.HeartbeatDue: Session._heartbeat_due,
    e.ControlRequested: Session._control_requested,
    e.RetargetGranted: Session._retarget_granted,
    e.RetargetRefused: Session._retarget_refused,
    e.TargetEnded: Session._target_ended,
    e.ServiceReturned: Session._service_returned,
    e.ServiceGone: Session._service_gone,
    e.HoldExpired: Session._hold_expired,
    e.CloseRequested: Session._close_requested,
    e.CancelRequested: Session._cancel_requested,
    e.EndRequested: Session._end_requested,
    e.ShutdownStarted: Session._shutdown_started,
}
