"""The supervisor's handle on the gateway, with a real process in the gateway's place."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import psutil
import pytest
from support.waiting import wait_until
from wsrelay.kernel.shell.attachment import Turn
from wsrelay.kernel.shell.children import Child
from wsrelay.kernel.shell.gateway import Gateway
from wsrelay.kernel.wire import messages as m
from wsrelay.kernel.wire.channel import channel_pair
from wsrelay.kernel.wire.configuration import GatewayConfiguration
from wsrelay.kernel.wire.reason import NORMAL, make_reason

RECORDS = 1000
"""More than one read of the channel takes, and no more than the socket holds."""
LAST_WORDS = f"""
import socket, sys
from wsrelay.kernel.wire import messages as m
from wsrelay.kernel.wire.codec import encode
from wsrelay.kernel.wire.reason import NORMAL, make_reason
end = socket.socket(fileno=int(sys.argv[1]))
end.setblocking(True)
ended = [m.ConnectionEnded(f"{{'x' * 60}}{{number}}", make_reason(NORMAL), ()) for number in range({RECORDS})]
end.sendall(b"".join(map(encode, ended)))
"""


class _Talker(Gateway):
    """What is executed writes much, and ends."""

    @staticmethod
    def _execute() -> tuple[socket.socket, Child]:
        ours, theirs = channel_pair()
        with theirs:
            descriptor = theirs.fileno()
            command = [sys.executable, "-c", LAST_WORDS, str(descriptor)]
            started = subprocess.Popen(command, pass_fds=[descriptor])
            started.returncode = 0  # the handle reaps it
            return ours, Child(started.pid)


class _Listener:
    """Notes what it is told."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.told: list[Any] = []

    def from_gateway(self, record: tuple[Any, ...]) -> None:
        self.told.append(record)

    def gateway_lost(self) -> None:
        self.told.append("lost")

    def gateway_failed(self, why: str) -> None:
        self.told.append("failed")
        self.loop.stop()

    def gateway_started(self) -> None:
        pass

    def gateway_ready(self) -> None:
        pass

    def end_turn(self) -> None:
        pass


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


def test_a_gateway_s_last_words_come_before_its_death(loop: asyncio.AbstractEventLoop) -> None:  # S41, S14
    """Also when they and its death are there at once, as after a moment in which the supervisor stood still."""
    listener = _Listener(loop)
    gateway = _Talker(
        loop,
        Turn(),
        GatewayConfiguration(),
        listener,
        lambda packed: m.Configure(1, "n", "e", packed),
        lambda server: [],
    )
    gateway.start()
    assert gateway.child is not None
    process = psutil.Process(gateway.child.os_pid)
    try:
        wait_until(lambda: process.status() == psutil.STATUS_ZOMBIE, 30)
    finally:
        gateway.child.kill()
        loop.run_forever()
    pids = [f"{'x' * 60}{number}" for number in range(RECORDS)]
    assert listener.told == [*(m.ConnectionEnded(pid, make_reason(NORMAL), ()) for pid in pids), "lost", "failed"]
