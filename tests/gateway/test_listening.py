"""What a real gateway process accepts: TLS handshakes that are not finished count, and do not last; clients when
no descriptor is left."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import signal
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support import raw_client
from support.standard_error import captured_lines
from support.waiting import wait_until
from wsrelay.kernel.wire import messages as m
from wsrelay.kernel.wire.configuration import Limits, Proxy, Static, Timeouts, Tls

HALF_A_HELLO = b"\x16\x03\x01\x02\x00\x01"
GET = b"GET /nowhere HTTP/1.1\r\nHost: h\r\n\r\n"
LONG = Timeouts(header=3600.0)

Begin = Callable[[Any], socket.socket]


@pytest.fixture
def begin() -> Any:
    """Connect, and begin a TLS handshake."""
    with contextlib.ExitStack() as stack:

        def connect(supervisor: Any) -> socket.socket:
            connection = socket.create_connection(("127.0.0.1", supervisor.ports["app:gateway"]), timeout=10)
            stack.enter_context(connection)
            connection.sendall(HALF_A_HELLO)
            return connection

        yield connect


def answer(supervisor: Any, tls: Tls) -> bytes:
    """What a client gets who does it right; empty if its line is cut."""
    context = ssl.create_default_context(cafile=tls.certificate)
    with socket.create_connection(("127.0.0.1", supervisor.ports["app:gateway"]), timeout=10) as plain:
        try:
            with context.wrap_socket(plain, server_hostname="localhost") as connection:
                connection.sendall(GET)
                return connection.recv(100)
        except (ConnectionError, ssl.SSLError):
            return b""


def read_not_found(connection: socket.socket) -> None:
    """Read the answer to `GET`, all of it."""
    answered = b""
    while not answered.endswith(b"Not Found\n"):
        received = connection.recv(1000)
        assert received, answered
        answered += received


def is_cut(connection: socket.socket) -> bool:
    try:
        return connection.recv(100) == b""
    except ConnectionResetError:
        return True


@pytest.mark.parametrize("uvloop", [True, False])
@pytest.mark.parametrize("limits", [Limits(connections=2), Limits(per_address=2)])
def test_a_tls_handshake_in_progress_counts(serve: Any, tls: Tls, begin: Begin, limits: Limits, uvloop: bool) -> None:
    supervisor = serve(tls=tls, limits=limits, timeouts=LONG, uvloop=uvloop)
    held = [begin(supervisor) for _ in range(2)]
    assert is_cut(begin(supervisor))
    assert answer(supervisor, tls) == b""
    held[0].close()
    wait_until(lambda: answer(supervisor, tls).startswith(b"HTTP/1.1 404 "), message="the place to be free again")
    assert not is_readable(held[1])


def is_readable(connection: socket.socket) -> bool:
    connection.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        connection.recv(1)
        return True
    return False


def test_a_connection_over_tls_keeps_the_place_of_its_handshake(serve: Any, tls: Tls, begin: Begin) -> None:
    supervisor = serve(tls=tls, limits=Limits(connections=1), timeouts=LONG)
    context = ssl.create_default_context(cafile=tls.certificate)
    plain = socket.create_connection(("127.0.0.1", supervisor.ports["app:gateway"]), timeout=10)
    with context.wrap_socket(plain, server_hostname="localhost") as connection:
        for _ in range(2):
            connection.sendall(GET)
            read_not_found(connection)
            assert is_cut(begin(supervisor))
    wait_until(lambda: answer(supervisor, tls).startswith(b"HTTP/1.1 404 "), message="the place to be free again")


def test_the_handshakes_of_a_trusted_proxy_are_not_counted_by_address(serve: Any, tls: Tls, begin: Begin) -> None:
    supervisor = serve(tls=tls, limits=Limits(per_address=1), proxy=Proxy(("127.0.0.1",)), timeouts=LONG)
    begin(supervisor)
    assert answer(supervisor, tls).startswith(b"HTTP/1.1 404 ")


@pytest.mark.parametrize("uvloop", [True, False])
def test_a_tls_handshake_that_does_not_end_is_cut(serve: Any, tls: Tls, begin: Begin, uvloop: bool) -> None:
    supervisor = serve(tls=tls, timeouts=Timeouts(header=0.2), uvloop=uvloop)
    before = supervisor.descriptors()
    halves = [begin(supervisor) for _ in range(5)]
    assert all(is_cut(connection) for connection in halves)
    wait_until(lambda: supervisor.descriptors() == before, message="the descriptors to be closed")


def test_bytes_that_are_no_tls(serve: Any, tls: Tls) -> None:
    supervisor = serve(tls=tls, limits=Limits(connections=1), timeouts=LONG)
    with socket.create_connection(("127.0.0.1", supervisor.ports["app:gateway"]), timeout=10) as connection:
        connection.sendall(GET)
        while not is_cut(connection):
            pass
    wait_until(lambda: answer(supervisor, tls).startswith(b"HTTP/1.1 404 "), message="the place to be free again")


@pytest.mark.parametrize("uvloop", [True, False])
def test_a_shutdown_does_not_wait_for_tls_handshakes(serve: Any, tls: Tls, begin: Begin, uvloop: bool) -> None:
    supervisor = serve(tls=tls, limits=Limits(connections=1), timeouts=LONG, uvloop=uvloop)
    before = supervisor.descriptors()
    half_open = begin(supervisor)
    wait_until(lambda: supervisor.descriptors() > before, message="it to be accepted")
    supervisor.send(m.Shutdown())
    assert is_cut(half_open)
    supervisor.expect(m.ShutdownComplete)


@pytest.mark.parametrize("uvloop", [True, False])
@pytest.mark.parametrize("encrypted", [True, False])
@pytest.mark.parametrize("shutdown_first", [True, False])
def test_clients_that_come_in_the_turn_of_the_shutdown(
    serve: Any, tls: Tls, begin: Begin, uvloop: bool, encrypted: bool, shutdown_first: bool
) -> None:
    supervisor = serve(tls=tls if encrypted else None, timeouts=LONG, uvloop=uvloop)
    supervisor.process.send_signal(signal.SIGSTOP)  # what happens now it finds in one turn
    if not shutdown_first:
        begin(supervisor)
    supervisor.send(m.Shutdown())
    begin(supervisor)
    supervisor.process.send_signal(signal.SIGCONT)
    supervisor.expect(m.ShutdownComplete)


@pytest.mark.parametrize("uvloop", [True, False])
def test_a_shutdown_waits_no_longer_for_the_end_of_tls_than_for_that_of_a_client(
    serve: Any, tls: Tls, uvloop: bool
) -> None:
    supervisor = serve(tls=tls, timeouts=Timeouts(close=0.2, idle=3600.0), uvloop=uvloop)
    context = ssl.create_default_context(cafile=tls.certificate)
    plain = socket.create_connection(("127.0.0.1", supervisor.ports["app:gateway"]), timeout=10)
    with context.wrap_socket(plain, server_hostname="localhost") as connection:
        connection.sendall(GET)
        read_not_found(connection)
        supervisor.send(m.Shutdown())  # it does not answer the close_notify
        supervisor.expect(m.ShutdownComplete)


# --- descriptors ------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def open_files(supervisor: Any, allowed: int) -> Iterator[None]:
    """So many may the gateway open meanwhile."""
    os_pid = supervisor.process.pid
    soft, hard = resource.prlimit(os_pid, resource.RLIMIT_NOFILE)
    resource.prlimit(os_pid, resource.RLIMIT_NOFILE, (allowed, hard))
    try:
        yield
    finally:
        resource.prlimit(os_pid, resource.RLIMIT_NOFILE, (soft, hard))


def lowest_free(supervisor: Any) -> int:
    """The number that the gateway's next descriptor has: if so many are allowed, there is none."""
    taken = {int(number) for number in os.listdir(f"/proc/{supervisor.process.pid}/fd")}
    return min(set(range(len(taken) + 1)) - taken)


def ask(supervisor: Any, server: str = "app:gateway", path: str = "/nowhere") -> int:
    """The status that a new client gets."""
    with socket.create_connection(("127.0.0.1", supervisor.ports[server]), timeout=10) as connection:
        connection.sendall(b"GET %s HTTP/1.1\r\nHost: h\r\n\r\n" % path.encode())
        return int(connection.recv(1000).split()[1])


def told(supervisor: Any, server: str = "app:gateway") -> bytes:
    """What a client is told that says nothing."""
    with socket.create_connection(("127.0.0.1", supervisor.ports[server]), timeout=10) as connection:
        return connection.recv(1000)


def logged(pattern: str) -> list[Any]:
    """Every match in the log, once there is one: a thread writes it, a moment later."""
    found: list[Any] = wait_until(
        lambda: re.findall(pattern, captured_lines()), message=f"a line in the log: {pattern}"
    )
    return found


def refusals() -> list[Any]:
    return logged(r"no descriptor for a client: refused (\d+); (\d+) open files")


@pytest.mark.usefixtures("capfd")
@pytest.mark.parametrize("uvloop", [True, False])
def test_clients_leave_descriptors_for_the_gateway(serve: Any, uvloop: bool) -> None:
    supervisor = serve(uvloop=uvloop)
    supervisor.function_worker()
    with contextlib.ExitStack() as stack, open_files(supervisor, 64 + 1 + 3):
        for _ in range(3):
            client = socket.create_connection(("127.0.0.1", supervisor.ports["app:gateway"]), timeout=10)
            stack.enter_context(client)
            client.sendall(GET)
            assert client.recv(100).startswith(b"HTTP/1.1 404 ")
        for _ in range(3):
            assert told(supervisor).startswith(b"HTTP/1.1 503 ")
        assert refusals() == [("1", "68")]
        client.close()
        wait_until(lambda: ask(supervisor) == 404, message="the place to be free again")


@pytest.mark.usefixtures("capfd")
@pytest.mark.parametrize("uvloop", [True, False])
def test_without_a_descriptor_clients_are_told_and_an_admin_answers(
    start_gateway: Any, new_server: Any, uvloop: bool
) -> None:
    servers = new_server(), new_server(id="app:admin", routes=(), admin=True)
    supervisor = start_gateway(*servers, uvloop=uvloop)
    supervisor.expect(m.GatewayReady)
    before = supervisor.descriptors()
    assert ask(supervisor) == ask(supervisor, "app:admin") == 404
    wait_until(lambda: supervisor.descriptors() == before, message="their descriptors to be closed")
    allowed = lowest_free(supervisor)
    with open_files(supervisor, allowed):
        for _ in range(10):
            assert told(supervisor).startswith(b"HTTP/1.1 503 ")
            assert ask(supervisor, "app:admin") == 404
        assert refusals() == [("1", str(allowed))]
    assert ask(supervisor) == 404


@pytest.mark.usefixtures("capfd")
@pytest.mark.parametrize("uvloop", [True, False])
def test_who_cannot_be_accepted_waits_until_it_can(serve: Any, uvloop: bool) -> None:
    supervisor = serve(uvloop=uvloop)
    with contextlib.ExitStack() as stack:
        with open_files(supervisor, 3):  # so few that what is kept back may not be opened again either
            client = stack.enter_context(raw_client.connect(supervisor, GET))
            assert refusals() == [("1", "3")]
        read_not_found(client)


@pytest.mark.usefixtures("capfd")
def test_a_file_that_cannot_be_opened_for_want_of_descriptors(serve: Any, tmp_path: Path) -> None:
    (tmp_path / "page").write_text("here")
    supervisor = serve(statics=(Static("/", str(tmp_path)),))
    with socket.create_connection(("127.0.0.1", supervisor.ports["app:gateway"]), timeout=10) as client:
        client.sendall(GET)
        read_not_found(client)
        allowed = lowest_free(supervisor)
        with open_files(supervisor, allowed):
            client.sendall(b"GET /page HTTP/1.1\r\nHost: h\r\n\r\n")
            assert client.recv(1000).startswith(b"HTTP/1.1 503 ")
        assert refusals() == [("1", str(allowed))]


@pytest.mark.usefixtures("capfd")
def test_more_connections_than_files_that_may_be_open(serve: Any) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for connections in (hard - 64, hard - 63):
        serve(limits=Limits(connections=connections))
    found = logged(r"limits.connections is (\d+) in all, but (\d+) open files are allowed")
    assert found == [(str(hard - 63), str(hard))]
