"""What is said to the service manager, by a manager whose runtime a test plays."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest
from support.waiting import wait_until_async
from wsrelay.kernel.core.service_states import State
from wsrelay.kernel.shell.systemd.activation import Listening
from wsrelay.kernel.shell.systemd.manager import Contact, Manager
from wsrelay.kernel.shell.systemd.notify import Outlet


class Runtime:
    """A runtime of a gateway and one service."""

    def __init__(self) -> None:
        self.gateway = False
        self.state = State.STARTING

    def parts(self) -> dict[str, bool]:
        return {"the gateway": self.gateway}

    def services(self) -> dict[str, State]:
        return {"app:room": self.state}

    def wanted_services(self) -> list[str]:
        return ["app:room"]

    def census(self) -> tuple[int, int]:
        return 2, 3


class Ears:
    """The other end."""

    def __init__(self) -> None:
        self.outlet_end, self._end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._end.setblocking(False)
        self.heard: list[str] = []

    def listen(self) -> list[str]:
        while True:
            try:
                text = self._end.recv(4096)
            except BlockingIOError:
                return self.heard
            if not text:
                return self.heard
            self.heard.append(text.decode())

    def close(self) -> None:
        self._end.close()


@pytest.fixture
def ears() -> Iterator[Ears]:
    made = Ears()
    yield made
    made.close()


def test_ready_comes_when_all_parts_serve_and_the_services_run(ears: Ears) -> None:
    async def scenario() -> None:
        runtime = Runtime()
        contact = Contact(Listening([], []), Outlet(ears.outlet_end), 0.0)
        manager = Manager(asyncio.get_running_loop(), runtime, contact)
        manager.start()
        for change in ({"gateway": True}, {"gateway": False, "state": State.RUNNING}):
            vars(runtime).update(change)
            manager.changed()
            await turn()
            assert not any("READY" in text for text in ears.listen())
        runtime.gateway = True
        manager.changed()
        await wait_until_async(lambda: any("READY=1" in text for text in ears.listen()))
        assert manager.ready
        assert ears.heard[-1] == "READY=1\nSTATUS=serving: 2 connections, 3 processes, 1 of 1 services run"
        manager.changed()
        await turn()
        assert sum("READY=1" in text for text in ears.listen()) == 1
        manager.stopping("closing the connections", 1.0)
        assert not manager.ready
        manager.close()

    asyncio.run(scenario())


def test_a_reload_and_a_stop_are_said(ears: Ears) -> None:
    async def scenario() -> None:
        runtime = Runtime()
        manager = Manager(asyncio.get_running_loop(), runtime, Contact(Listening([], []), Outlet(ears.outlet_end), 0.0))
        manager.reloading()  # not before it is ready: that would say that it is
        manager.reloaded()
        runtime.gateway, runtime.state = True, State.RUNNING
        manager.changed()
        await wait_until_async(lambda: manager.ready)
        manager.reloading()
        manager.reloaded()
        manager.stopping("closing the connections", 2.5)
        manager.stopping("stopping the services", 1.5)
        manager.close()

    asyncio.run(scenario())
    started, reloading, ready, first, second = ears.listen()
    assert started.startswith("READY=1\n")
    assert reloading.startswith("RELOADING=1\nMONOTONIC_USEC=")
    assert ready.startswith("READY=1\n")
    assert first.startswith("STOPPING=1\nSTATUS=closing the connections: 2 connections")
    assert first.endswith("\nEXTEND_TIMEOUT_USEC=2500000")
    assert second.startswith("STATUS=stopping the services")


def test_a_runtime_that_is_not_well_gives_no_sign_of_life(
    ears: Ears, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("wsrelay.kernel.core.duties.PATIENCE", 0.0)

    async def scenario() -> None:
        runtime = Runtime()
        contact = Contact(Listening([], []), Outlet(ears.outlet_end), 0.04)
        manager = Manager(asyncio.get_running_loop(), runtime, contact)
        manager.start()
        await wait_until_async(lambda: "the gateway has been down for" in caplog.text)
        silent_from = len(ears.listen())
        runtime.gateway = True
        manager.changed()
        await wait_until_async(lambda: "WATCHDOG=1" in ears.listen()[silent_from:])
        manager.close()

    asyncio.run(scenario())


async def turn() -> None:
    """Let the loop do what it has to do next."""
    done = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(done.set_result, None)
    await done
