"""An open WebSocket: the transport, the frames and the timers of one session.

Owns the asyncio protocol from 101 to the end of the line, and performs the session's effects. Decides nothing: which close
code, which leave, which exit reason is the session's (`core.session`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from ...kernel.wire.client_frames import TEXT, message_prefix
from ...kernel.wire.configuration import Drain
from ...kernel.wire.messages import ClientMessage
from ..core import session_events as e
from ..core.client_reader import ClientReader, WholeMessage
from ..core.frames import (
    MAX_HEAD,
    CloseFrame,
    Failure,
    Message,
    MessageWriter,
    PingReceived,
    PongReceived,
    encode_close,
    encode_ping,
    encode_pong,
    message_head,
)
from ..core.session import Phase, Session
from .data_channels import WorkerLink, Workers
from .service import Service
from .stalls import StallWatch
from .turn import Turn

_EARLY_FLUSH: Final = 64 << 10
"""Bytes collected for a client that are written before the turn ends."""
_BURST: Final = 128
"""Frames of a client that are decoded in one turn. One read brings tens of thousands of tiny ones: half a second's work."""


class Surroundings(Protocol):
    """What a connection needs of the gateway."""

    loop: asyncio.AbstractEventLoop
    turn: Turn
    workers: Workers
    stalls: StallWatch

    def retarget(self, connection: RelayConnection, target: str) -> None:
        """Ask for a new target; the connection gets RetargetGranted or RetargetRefused."""

    def await_service(self, connection: RelayConnection, name: str) -> None:
        """Ask for the service of the dead target; the connection gets ServiceReturned or ServiceGone."""

    def end(self, connection: RelayConnection, effect: e.ReportEnd) -> None:
        """The connection is dead."""


class RelayConnection(asyncio.Protocol):
    """One client."""

    def __init__(
        self,
        surroundings: Surroundings,
        service: Service,
        transport: asyncio.Transport,
        session: Session,
        reader: ClientReader,
        writer: MessageWriter,
        on_gone: Callable[[], None],
    ) -> None:
        """`on_gone` is called once, when the line is gone."""
        self.session = session
        self._around = surroundings
        self._loop = surroundings.loop
        self._service = service
        self._transport = transport
        self._reader = reader
        self._writer = writer
        self._on_gone = on_gone
        self._link: WorkerLink | None = None
        self._prefix = message_prefix(session.serial)
        self._out: list[bytes] = []
        self._out_size = 0
        self._queued = 0
        self._marked = False
        self._congested = False
        self._yielded = False
        self._paused = False
        self._gone = False
        self._beat_drains = -1
        self._heartbeat = 0.0
        self._heartbeat_timer: asyncio.TimerHandle | None = None
        self._ping_timer: asyncio.TimerHandle | None = None
        self._pong_timer: asyncio.TimerHandle | None = None
        self._stall_timer: asyncio.TimerHandle | None = None
        self._hold_timer: asyncio.TimerHandle | None = None
        self._held_for = ""
        self._close_timer: asyncio.TimerHandle | None = None

    def open(self, response: bytes, early: bytes) -> None:
        """Send the 101 and join. `early` is what the client sent before it."""
        # Without a margin the transport writes at once, and what it says that it has left is what the client has not taken.
        self._transport.set_write_buffer_limits(high=0, low=0)
        self._transport.set_protocol(self)
        self._transport.resume_reading()
        self._write(response)
        self.handle(e.Opened(self._loop.time()))
        if self._service.ping.interval:
            self._ping_timer = self._loop.call_later(self._service.ping.interval, self._send_ping)
        if early:
            self.data_received(early)

    def handle(self, event: e.Event) -> None:
        """Let the session decide, and do what it says."""
        effects = self.session.handle(event)
        for effect in effects:
            self._perform(effect)
        if effects:
            self._bind()
            self._decode()

    # --- to the client ------------------------------------------------------------------------------------------------

    @property
    def compresses(self) -> bool:
        """Whether messages must be encoded for this client alone."""
        return self._writer.compresses

    def send_message(self, opcode: int, payload: bytes) -> None:
        """Send a message, TEXT or BINARY. Nothing goes out once the connection closes."""
        if not self.session.is_open:
            return
        if self._writer.compresses:
            self._write(self._writer.encode(opcode, payload))
        else:
            head = message_head(opcode, len(payload))
            self._out.append(head)
            self._out_size += len(head)
            self._write(payload)

    def send_frame(self, frame: bytes) -> None:
        """Send an encoded message, the same for several clients."""
        if self.session.is_open:
            self._write(frame)

    def _write(self, data: bytes) -> None:
        self._out.append(data)
        self._out_size += len(data)
        if self._out_size > _EARLY_FLUSH:
            self._flush()
        elif not self._marked:
            self._marked = True
            self._around.turn.mark(self)

    def flush_turn(self) -> None:
        """Write what this turn has collected."""
        self._marked = False
        self._flush()

    def _flush(self) -> None:
        out, size = self._out, self._out_size
        if not out:
            return
        self._out, self._out_size = [], 0
        if self._gone or self._transport.is_closing():
            return
        self._transport.write(b"".join(out) if len(out) > 1 else out[0])
        self._queued += size
        waiting = self._transport.get_write_buffer_size()
        if waiting:
            self._around.stalls.watch(self)
            # One message may be larger than the limit, if it waits alone.
            if waiting > max(self._service.limits.outbound, max(map(len, out)) + MAX_HEAD):
                self.handle(e.ClientTooSlow())

    @property
    def drain(self) -> Drain:
        """How connections of its server are closed when the runtime stops."""
        return self._service.drain

    @property
    def write_timeout(self) -> float:
        """Seconds without progress that make a client slow (S54)."""
        return self._service.timeouts.write

    def bytes_waiting(self) -> int:
        """Bytes not yet taken by the operating system."""
        return 0 if self._gone else self._transport.get_write_buffer_size()

    def bytes_queued(self) -> int:
        """Bytes handed to the transport so far."""
        return self._queued

    def handle_stall(self) -> None:
        """The client took nothing for `write_timeout`."""
        self.handle(e.ClientTooSlow())

    # --- from the client ----------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Bytes of the client."""
        self._reader.receive(data)
        self._decode()

    def _decode(self) -> None:
        """Decode as far as the session takes messages now, and no further than one turn's share."""
        session, share = self.session, _BURST
        while not self._blocked():
            if not share:
                self._yielded = True
                self._loop.call_soon(self._decode_on)
                break
            if session.backlog is not None and session.phase is Phase.OPEN:
                share -= 1
                self._hand_over()
                continue
            messages = self._reader.take_messages(share)
            if messages:
                share -= len(messages)
                self._messages_received(messages)
                if self._reader.drained:
                    break
                continue
            event = self._reader.next_event()
            if event is None:
                break
            share -= 1
            if type(event) is Message:
                if session.accept_messages(1) is None:
                    self.handle(e.MessageReceived(event.data))
                elif self._link is not None:
                    self._link.send(ClientMessage(session.serial, event.data))
            elif type(event) is PingReceived:
                if session.is_open:
                    self._write(encode_pong(event.payload))
            elif type(event) is PongReceived:
                self._pong_received()
            elif type(event) is CloseFrame:
                self.handle(e.CloseReceived(event.code, event.reason))
            elif type(event) is Failure:
                self.handle(e.ProtocolFailed(event.code, event.reason))
        self._update_reading()

    def _messages_received(self, messages: Sequence[WholeMessage]) -> None:
        """Hand whole messages to the target; what it is not to have now is the session's to keep or to drop (S46, S56)."""
        session = self.session
        if session.accept_messages(len(messages)) is not None:
            if self._link is not None:
                self._link.send_messages(self._prefix, messages)
        elif session.phase is Phase.HELD:
            for opcode, payload in messages:
                self.handle(e.MessageReceived(payload.decode() if opcode == TEXT else payload))

    def _hand_over(self) -> None:
        """Send the target the next of what the client had sent before there was a target (S56)."""
        worker, record = self.session.take_backlog()
        if self._link is not None and self._link.number == worker:
            self._link.send(record)

    def _decode_on(self) -> None:
        """Everybody else has had a turn."""
        self._yielded = False
        if not self._gone:
            self._decode()

    def _blocked(self) -> bool:
        session = self.session
        return self._yielded or ((self._congested or session.cut) and session.phase is Phase.OPEN)

    def _update_reading(self) -> None:
        blocked = self._blocked()
        if blocked is self._paused or self._gone:
            return
        self._paused = blocked
        if blocked:
            self._transport.pause_reading()
        elif not self._transport.is_closing():
            self._transport.resume_reading()
            if self._pong_timer is not None:  # its pong may be among the bytes that were not read
                self._await_pong()

    def pause_for_target(self) -> None:
        """The target's queue is full (S53)."""
        self._congested = True
        if self._stall_timer is None and self.session.phase is Phase.OPEN:
            self._stall_timer = self._loop.call_later(self._service.timeouts.stall, self.handle, e.TargetTooSlow())
        self._update_reading()

    def resume_for_target(self) -> None:
        """The target reads again."""
        self._congested = False
        self._stall_timer = _cancel(self._stall_timer)
        self._decode()

    def _bind(self) -> None:
        """Follow the session to its target's worker."""
        number = self.session.bound_to
        link = self._link
        if link is not None and link.number != number:
            link.members.pop(self.session.serial, None)
            self._link = link = None
            self._congested = False
            self._stall_timer = _cancel(self._stall_timer)
        if link is None and number is not None:
            self._link = link = self._around.workers.get(number)
            if link is not None:
                link.members[self.session.serial] = self
                if link.congested:
                    self.pause_for_target()

    def eof_received(self) -> None:
        """The client has closed its side: the transport closes itself."""

    def connection_lost(self, exc: Exception | None) -> None:
        """The line is gone."""
        self._gone = True
        for timer in (self._heartbeat_timer, self._ping_timer, self._pong_timer, self._stall_timer, self._close_timer):
            _cancel(timer)
        _cancel(self._hold_timer)
        self.handle(e.ConnectionLost())
        self._around.stalls.forget(self)
        self._on_gone()

    # --- pings and heartbeats -----------------------------------------------------------------------------------------

    def _send_ping(self) -> None:
        self._ping_timer = None
        if not self.session.is_open:
            return
        self._write(encode_ping(b""))
        if self._service.ping.timeout:
            self._await_pong()
        else:
            self._ping_timer = self._loop.call_later(self._service.ping.interval, self._send_ping)

    def _await_pong(self) -> None:
        _cancel(self._pong_timer)
        self._pong_timer = self._loop.call_later(self._service.ping.timeout, self._pong_overdue)

    def _pong_received(self) -> None:
        if self._pong_timer is not None and self.session.is_open:
            self._pong_timer = _cancel(self._pong_timer)
            self._ping_timer = self._loop.call_later(self._service.ping.interval, self._send_ping)

    def _pong_overdue(self) -> None:
        if self._paused:  # what we do not read does not count (S53)
            self._await_pong()
        else:
            self._pong_timer = None
            self.handle(e.PingTimedOut())

    def _beat(self) -> None:
        link = self._link
        waiting = link is not None and link.pending > 0 and link.drains == self._beat_drains
        if link is not None:
            self._beat_drains = link.drains
        self._heartbeat_timer = self._loop.call_later(self._heartbeat, self._beat)
        self.handle(e.HeartbeatDue(self._loop.time(), waiting))

    # --- effects ------------------------------------------------------------------------------------------------------

    def _perform(self, effect: e.Effect) -> None:
        _PERFORM[type(effect)](self, effect)

    def _send_to_worker(self, effect: e.SendToWorker) -> None:
        link = self._around.workers.get(effect.worker)
        if link is not None:
            link.send_reply(effect.record)

    def _request_retarget(self, effect: e.RequestRetarget) -> None:
        self._around.retarget(self, effect.target)

    def _await_service(self, effect: e.AwaitService) -> None:
        self._held_for = effect.name
        self._around.await_service(self, effect.name)

    def await_service_again(self) -> None:
        """The process that had the name could not be reached, and is dead."""
        if self.session.phase is Phase.HELD:
            self._around.await_service(self, self._held_for)

    def _set_hold(self, effect: e.SetHold) -> None:
        _cancel(self._hold_timer)
        due = self._loop.call_later(effect.seconds, self.handle, e.HoldExpired()) if effect.seconds else None
        self._hold_timer = due

    def _set_heartbeat(self, effect: e.SetHeartbeat) -> None:
        self._heartbeat = effect.interval
        _cancel(self._heartbeat_timer)
        self._heartbeat_timer = self._loop.call_later(effect.interval, self._beat) if effect.interval else None

    def _send_close(self, effect: e.SendClose) -> None:
        self._write(encode_close(effect.code, effect.reason))

    def _await_answers(self, effect: e.AwaitAnswers) -> None:
        self._loop.call_later(effect.seconds, self.handle, effect.then)

    def _await_close(self, _: e.AwaitClose) -> None:
        self._ping_timer = _cancel(self._ping_timer)
        self._pong_timer = _cancel(self._pong_timer)
        self._stall_timer = _cancel(self._stall_timer)
        self._hold_timer = _cancel(self._hold_timer)
        self.hasten_close(self._service.timeouts.close)
        self._flush()
        if self._reader.finished and not self._gone:
            # Nothing more can be decoded, not even the client's Close: the end of its line will do (RFC 6455 §7.1.7).
            # Reading goes on until then, because a reset would overtake our Close frame; TLS does so by itself.
            if self._transport.can_write_eof():
                self._transport.write_eof()
            else:
                self._transport.close()

    def hasten_close(self, seconds: float) -> None:
        """Give the close handshake no longer than this from now on."""
        if self.session.phase is not Phase.CLOSING or self._gone:
            return
        due = self._loop.time() + seconds
        if self._close_timer is None or due < self._close_timer.when():
            _cancel(self._close_timer)
            self._close_timer = self._loop.call_at(due, self.handle, e.CloseTimedOut())

    def _disconnect(self, effect: e.Disconnect) -> None:
        _cancel(self._close_timer)
        if self._gone:
            return
        if effect.abort:
            self._transport.abort()
            return
        self._flush()
        self._transport.close()
        # The transport waits for its bytes to be taken; a client need not take them.
        self._close_timer = self._loop.call_later(self._service.timeouts.close, self._transport.abort)

    def _report_end(self, effect: e.ReportEnd) -> None:
        for timer in (self._heartbeat_timer, self._ping_timer, self._pong_timer, self._stall_timer, self._hold_timer):
            _cancel(timer)
        self._bind()
        self._around.end(self, effect)


def _cancel(timer: asyncio.TimerHandle | None) -> asyncio.TimerHandle | None:
    """Cancel a timer; returns what its attribute is to be from then on."""
    if timer is not None:
        timer.cancel()
    return None


_PERFORM: Final[dict[type, Callable[..., None]]] = {
    e.SendToWorker: RelayConnection._send_to_worker,
    e.RequestRetarget: RelayConnection._request_retarget,
    e.AwaitService: RelayConnection._await_service,
    e.SetHold: RelayConnection._set_hold,
    e.SetHeartbeat: RelayConnection._set_heartbeat,
    e.SendClose: RelayConnection._send_close,
    e.AwaitAnswers: RelayConnection._await_answers,
    e.AwaitClose: RelayConnection._await_close,
    e.Disconnect: RelayConnection._disconnect,
    e.ReportEnd: RelayConnection._report_end,
}
