"""An open WebSocket: the frames and the timers of one session.

Owns the asyncio protocol from 101 to the end of the line, and performs the session's effects. Decides nothing: which close
code, which leave, which exit reason is the session's (`core.session`). How bytes go out is `client_line`.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from ...kernel.wire.client_frames import TEXT, message_prefix
from ...kernel.wire.configuration import Drain
from ...kernel.wire.messages import ClientMessage
from ..core import session_events as e
from ..core.client_reader import ClientReader, WholeMessage
from ..core.frames import (
    CloseFrame,
    Failure,
    Message,
    MessageWriter,
    PingReceived,
    PongReceived,
    encode_close,
    encode_ping,
    encode_pong,
)
from ..core.session import Phase, Session
from .accounts import Account
from .client_line import ClientLine
from .data_channels import WorkerLink, Workers
from .keepalive import Keepalive
from .service import Service
from .stalls import StallWatch
from .turn import Turn

_OPEN: Final = Phase.OPEN  # an enumeration's members are slow to look up
_BURST: Final = 128
"""Frames of a client that are decoded in one turn, those that are no message too. One read brings tens of thousands of tiny ones:
half a second's work."""
_ROOM: Final = 256 << 10
"""Bytes that a client's messages are inflated to in one turn, if they are compressed: a KiB of them may be a MiB. The last message
may go beyond it. Without compression one read is the bound."""


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


class RelayConnection(ClientLine):
    """One client."""

    def __init__(
        self,
        surroundings: Surroundings,
        service: Service,
        transport: asyncio.Transport,
        session: Session,
        reader: ClientReader,
        writer: MessageWriter,
        on_gone: Callable[[], object],
    ) -> None:
        """`on_gone` is called once, when the line is gone."""
        super().__init__(surroundings.turn, surroundings.stalls, service, transport, session, writer)
        self.account: Account | None = None
        self.received = 0
        """Bytes of the client."""
        self._around = surroundings
        self._loop = surroundings.loop
        self._reader = reader
        self._on_gone = on_gone
        self._link: WorkerLink | None = None
        self._prefix = message_prefix(session.serial)
        self._congested = False
        self._yielded = False
        self._paused = False
        self._line_has_ended = False
        self._beat_drains = -1
        self._heartbeat = 0.0
        self._heartbeat_timer: asyncio.TimerHandle | None = None
        self._keepalive: Keepalive | None = None
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
            self._keepalive = Keepalive(self._loop, self._service, self)
        if early:
            self.data_received(early)

    def handle(self, event: e.Event) -> None:
        """Let the session decide, and do what it says."""
        effects = self.session.handle(event)
        for effect in effects:
            self._perform(effect)
        if effects:
            self._bind()
            if self.has_unread or self._gone:  # a line that has ended may have waited for this
                self._decode()
            else:
                self._update_reading()

    @property
    def drain(self) -> Drain:
        """How connections of its server are closed when the runtime stops."""
        return self._service.drain

    # --- from the client ----------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Bytes of the client."""
        self.received += len(data)
        self._reader.receive(data)
        self._decode()

    def _decode(self) -> None:
        """Decode as far as the session takes messages now, and no further than one turn's share."""
        session, reader, share = self.session, self._reader, _BURST
        most = reader.spent + _ROOM if reader.inflates else _ROOM
        while not self._blocked():
            room = most - reader.spent if reader.inflates else most
            if share <= 0 or room <= 0:
                self._yielded = True
                self._loop.call_soon(self._decode_on)
                break
            if session.backlog is not None and session.phase is Phase.OPEN:
                share -= 1
                self._hand_over()
                continue
            messages = reader.take_messages(share, room)
            if messages:
                count = len(messages)
                share -= count
                if session.accept_messages(count) is None:
                    self._keep(messages)
                elif self._link is not None:
                    self._link.send_messages(session.serial, self._prefix, messages)
                if reader.drained:
                    break
                continue
            event = reader.next_event()
            if event is None:
                break
            share -= 1
            if type(event) is Message:
                if session.accept_messages(1) is None:
                    self.handle(e.MessageReceived(event.data))
                elif self._link is not None:
                    self._link.send_message(session.serial, ClientMessage(session.serial, event.data))
            elif type(event) is PingReceived:
                if session.is_open:
                    self._write(encode_pong(event.payload))
            elif type(event) is PongReceived:
                if self._keepalive is not None and session.is_open:
                    self._keepalive.handle_pong()
            elif type(event) is CloseFrame:
                self.handle(e.CloseReceived(event.code, event.reason))
            elif type(event) is Failure:
                self.handle(e.ProtocolFailed(event.code, event.reason))
        if self._paused or self._yielded or self._congested or session.transfers.pending is not None:
            self._update_reading()
        if self._gone and (session.phase is not Phase.OPEN or not self._blocked()):
            self._line_ended()

    def _keep(self, messages: Sequence[WholeMessage]) -> None:
        """There is no target that could have these messages: they are the session's to keep or to drop (S46, S56)."""
        if self.session.phase is Phase.HELD:
            for opcode, payload in messages:
                self.handle(e.MessageReceived(payload.decode() if opcode == TEXT else payload))

    def _hand_over(self) -> None:
        """Send the target the next of what the client had sent before there was a target (S56)."""
        worker, record = self.session.take_backlog()
        if self._link is not None and self._link.number == worker:
            self._link.send_message(self.session.serial, record)

    def _decode_on(self) -> None:
        """Everybody else has had a turn."""
        self._yielded = False
        if not self._line_has_ended:
            self._decode()

    def _blocked(self) -> bool:
        session = self.session
        # `session.cut`, without a call: this is asked at every message.
        cut = session.transfers.pending is not None
        return self._yielded or ((self._congested or cut) and session.phase is _OPEN)

    def _update_reading(self) -> None:
        blocked = self._blocked()
        if blocked is self._paused or self._gone:
            return
        self._paused = blocked
        if blocked:
            self._transport.pause_reading()
        elif not self._transport.is_closing():
            self._transport.resume_reading()
            if self._keepalive is not None:
                self._keepalive.handle_resumed()

    def pause_for_target(self) -> None:
        """The target's queue is full (S53)."""
        self._congested = True
        if self._stall_timer is None and self.session.phase is Phase.OPEN:
            self._stall_timer = self._loop.call_later(self._service.timeouts.stall, self._stall_due)
        self._update_reading()

    def _stall_due(self) -> None:
        """A target that let others go on meanwhile is not stuck: this client's turn comes."""
        self._stall_timer = None
        relieved_at = -math.inf if self._link is None else self._link.relieved_at
        left = relieved_at + self._service.timeouts.stall - self._loop.time()
        if left > 0:
            self._stall_timer = self._loop.call_later(left, self._stall_due)
        else:
            self.handle(e.TargetTooSlow())

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
            link.unbind(self.session.serial)
            self._link = link = None
            self._congested = False
            self._stall_timer = _cancel(self._stall_timer)
        if link is None and number is not None:
            self._link = link = self._around.workers.get(number)
            if link is not None:
                link.bind(self.session.serial, self)

    def eof_received(self) -> None:
        """The client has closed its side: the transport closes itself, after what is written now."""
        self.handle(e.HalfClosed())

    def connection_lost(self, exc: Exception | None) -> None:
        """The line is gone. Without an error it was the client that ended it: what it had sent before is still handed over, no faster
        than the target reads. (Of a plain line no end is seen while it is not read; of a TLS line it is.)"""
        self._gone = True
        self._stop_pings()
        self._heartbeat_timer = _cancel(self._heartbeat_timer)
        _cancel(self._close_timer)
        self._around.stalls.forget(self)
        if exc is None:
            self._decode()
        else:
            self._line_ended()

    def _line_ended(self) -> None:
        """Nothing of the client's is left."""
        if not self._line_has_ended:
            self._line_has_ended = True
            self._stop_timers()
            self.handle(e.ConnectionLost())
            self._on_gone()

    # --- pings and heartbeats -----------------------------------------------------------------------------------------

    @property
    def has_unread(self) -> bool:
        """Whether there is something of the client's here that has not been decoded, or handed over."""
        return self.session.backlog is not None or self._reader.has_unread

    @property
    def reads(self) -> bool:
        """Whether the client's bytes are being read."""
        return not self._paused and not self._gone

    def send_ping(self) -> bool:
        """Send a ping. Returns False if the connection closes."""
        if self.session.is_open:
            self._write(encode_ping(b""))
            return True
        return False

    def handle_silence(self) -> None:
        """There was no pong in time."""
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
        self._stop_pings()
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
        if self._transport.get_write_buffer_size() or not self._transport.can_write_eof():
            # The transport waits for its bytes to be taken, or for the end of TLS; a client need not do either.
            self._close_timer = self._loop.call_later(self._service.timeouts.close, self._transport.abort)

    def _stop_pings(self) -> None:
        if self._keepalive is not None:
            self._keepalive.stop()
            self._keepalive = None

    def _stop_timers(self) -> None:
        """All but that of the close handshake."""
        self._stop_pings()
        for timer in (self._heartbeat_timer, self._stall_timer, self._hold_timer):
            _cancel(timer)

    def _report_end(self, effect: e.ReportEnd) -> None:
        self._stop_timers()
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
