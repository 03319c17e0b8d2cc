"""Protocol pings to one client, and the time in which each must be answered (S55).

Owns the timers: one ping after each pong. Decides nothing: what a client that does not answer means is the session's.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from .service import Service


class Pinged(Protocol):
    """A connection."""

    @property
    def reads(self) -> bool:
        """Whether its bytes are being read: a pong among those that are not is no fault of the client's (S53)."""

    def send_ping(self) -> bool:
        """Send a ping. Returns False if the connection closes."""

    def handle_silence(self) -> None:
        """There was no pong in time."""


class Keepalive:
    """The pings of one connection."""

    __slots__ = ("_connection", "_loop", "_ping_timer", "_pong_timer", "_service")

    def __init__(self, loop: asyncio.AbstractEventLoop, service: Service, connection: Pinged) -> None:
        """The first ping is due after the interval of `service`."""
        self._loop = loop
        self._service = service
        self._connection = connection
        self._pong_timer: asyncio.TimerHandle | None = None
        self._ping_timer: asyncio.TimerHandle | None = None
        self._await_ping()

    def _await_ping(self) -> None:
        interval = self._service.ping.interval
        if interval:  # a reload may have made it 0: no pings
            self._ping_timer = self._loop.call_later(interval, self._send_ping)

    def _send_ping(self) -> None:
        self._ping_timer = None
        if not self._connection.send_ping():
            return
        if self._service.ping.timeout:
            self._await_pong()
        else:
            self._await_ping()

    def _await_pong(self) -> None:
        if self._pong_timer is not None:
            self._pong_timer.cancel()
        self._pong_timer = self._loop.call_later(self._service.ping.timeout, self._pong_overdue)

    def _pong_overdue(self) -> None:
        if self._connection.reads:
            self._pong_timer = None
            self._connection.handle_silence()
        else:
            self._await_pong()

    def handle_pong(self) -> None:
        """A pong came, while the connection is open."""
        if self._pong_timer is not None:
            self._pong_timer.cancel()
            self._pong_timer = None
            self._await_ping()

    def handle_resumed(self) -> None:
        """The connection is read again: the pong may be among the bytes that were not read."""
        if self._pong_timer is not None:
            self._await_pong()

    def stop(self) -> None:
        """Nothing is sent or awaited from now on."""
        if self._ping_timer is not None:
            self._ping_timer.cancel()
        if self._pong_timer is not None:
            self._pong_timer.cancel()
        self._ping_timer = self._pong_timer = None
