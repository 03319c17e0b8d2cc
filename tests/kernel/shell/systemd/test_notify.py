"""Notifications: over real sockets, one of which does not read."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from wsrelay.kernel.shell.errors import StartError
from wsrelay.kernel.shell.systemd import environment
from wsrelay.kernel.shell.systemd.notify import Outlet, Relay


@pytest.fixture
def ends() -> Iterator[tuple[Outlet, socket.socket]]:
    """An outlet whose other side does not read unless it is told to."""
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    outlet = Outlet(here)
    with there:
        there.setblocking(False)
        yield outlet, there
        outlet.close()


def read(end: socket.socket) -> list[bytes]:
    found = []
    try:
        while text := end.recv(4096):
            found.append(text)
    except BlockingIOError:
        pass
    return found


def fill(outlet: Outlet) -> None:
    for _ in range(100_000):
        outlet.send(b"STATUS=" + b"x" * 1000)


def test_what_is_said_again_is_dropped_and_the_rest_is_kept_in_order(ends: tuple[Outlet, socket.socket]) -> None:
    outlet, there = ends
    fill(outlet)
    for text in (b"WATCHDOG=1", b"READY=1\nSTATUS=serving", b"STATUS=later", b"STOPPING=1"):
        outlet.send(text)
    assert outlet.waiting
    assert b"READY=1" not in read(there)
    outlet.retry()
    assert not outlet.waiting
    assert read(there) == [b"READY=1\nSTATUS=serving", b"STOPPING=1"]


def test_a_descriptor_that_waits_is_the_outlets_own(ends: tuple[Outlet, socket.socket]) -> None:
    outlet, there = ends
    fill(outlet)
    reader, writer = os.pipe()
    outlet.send(b"FDSTORE=1", [reader])
    os.close(reader)
    read(there)
    outlet.retry()
    _, [received], _, _ = socket.recv_fds(there, 100, 1)
    os.write(writer, b"x")
    assert os.read(received, 1) == b"x"
    os.close(received)
    os.close(writer)


def test_nobody_listens(ends: tuple[Outlet, socket.socket]) -> None:
    outlet, there = ends
    there.close()
    outlet.send(b"READY=1")
    assert not outlet.waiting
    assert outlet.problem is not None


@pytest.mark.parametrize("abstract", [False, True])
def test_the_relay_passes_on_text_and_descriptors(tmp_path: Path, abstract: bool) -> None:
    name = f"@{tmp_path}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(name.replace("@", "\0", 1))
        relay = Relay(name)
        child = os.fork()
        if child == 0:  # the supervisor's side
            outlet = relay.for_supervisor()
            outlet.send(b"FDSTORE=1\nFDNAME=input", [0])
            outlet.send(b"READY=1")
            os._exit(0)
        relay.for_guardian()
        os.waitpid(child, 0)
        relay.pass_on()
        text, [descriptor], _, _ = socket.recv_fds(manager, 100, 1)
        assert text == b"FDSTORE=1\nFDNAME=input"
        os.close(descriptor)
        assert manager.recv(100) == b"READY=1"
        relay.close()


def test_the_environment_is_taken_once() -> None:
    given = {"NOTIFY_SOCKET": "/run/systemd/notify", "WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "7", "PATH": "/bin"}
    assert environment.take(given, 7) == environment.Passed("/run/systemd/notify", 3.0, ())
    assert given == {"PATH": "/bin"}


def test_what_is_another_process_s_is_not_ours() -> None:
    given = {"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "8", "LISTEN_PID": "8", "LISTEN_FDS": "1"}
    assert environment.take(given, 7) == environment.Passed()


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"LISTEN_FDS": "two", "LISTEN_PID": "7"}, "LISTEN_FDS=two is not a whole number"),
        ({"LISTEN_FDS": "2", "LISTEN_PID": "7", "LISTEN_FDNAMES": "a"}, "1 names for the 2 descriptors"),
        ({"WATCHDOG_USEC": "-1"}, "WATCHDOG_USEC=-1 is not a whole number"),
    ],
)
def test_an_environment_that_makes_no_sense(given: dict[str, str], complaint: str) -> None:
    with pytest.raises(StartError, match=complaint):
        environment.take(given, 7)
