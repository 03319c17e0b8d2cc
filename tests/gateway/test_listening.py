"""What a real gateway process accepts: TLS handshakes that are not finished count, and do not last."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Callable
from typing import Any

import pytest
from support.waiting import wait_until
from wsrelay.kernel.wire import messages as m
from wsrelay.kernel.wire.configuration import Limits, Proxy, Timeouts, Tls

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
            answered = b""
            while not answered.endswith(b"Not Found\n"):
                answered += connection.recv(1000)
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
