"""A real gateway process at its limits: targets that do not read, clients that take nothing, descriptors that run out."""

from __future__ import annotations

import os
import re
import resource
import signal
import socket
from pathlib import Path
from typing import Any

import pytest
from support.raw_client import GET, ask, connect, handshake, join, status
from support.standard_error import captured_lines
from support.waiting import wait_until
from wsrelay.kernel.wire import messages as m
from wsrelay.kernel.wire.configuration import GatewayConfiguration, Limits, Static, Timeouts, pack
from wsrelay.kernel.wire.reason import make_reason


def test_a_target_without_a_channel_is_503_and_its_pid_is_abandoned(supervisor: Any) -> None:  # S44
    function = supervisor.function_worker()
    pid = supervisor.new_pid()
    client, asked = ask(supervisor, function, "room")
    with client:
        supervisor.send(m.Admitted(asked.request, pid, 99))
        assert status(client) == 503
    # By its PID: the name may be another's by now.
    assert supervisor.expect(m.Abandon) == m.Abandon(pid, function.pid, asked.connection)
    assert supervisor.ended()[:2] == (asked.connection, make_reason("ws_closed:1006"))


def test_nothing_follows_a_close(serve: Any) -> None:  # S49: clients do not read on, so the bytes are what tells
    supervisor = serve(timeouts=Timeouts(close=0.2))
    function, target = supervisor.function_worker(), supervisor.actor()
    client, answer = join(supervisor, function, target)
    with client:
        assert answer == 101
        for record in (m.ClientSend((1,), "before"), m.ClientClose((1,), 4001, ""), m.ClientSend((1,), "after")):
            target.send(record)
        target.send(m.ClientSend((1, 2), "after"))
        taken = b""
        while received := client.recv(4096):
            taken += received
    assert taken.endswith(b"\x81\x06before\x88\x02\x0f\xa1")


def test_a_transfer_to_a_target_without_a_channel_fails(supervisor: Any) -> None:  # S48
    function, target = supervisor.function_worker(), supervisor.actor()
    client, answer = join(supervisor, function, target)
    with client:
        assert answer == 101
        heir = supervisor.new_pid()
        target.send(m.ClientControl((1,), heir, None, None, None))
        supervisor.send(m.Admitted(supervisor.expect(m.Retarget).request, heir, 99))
        assert target.expect(m.ControlError).target == heir
    assert target.expect(m.Leave).reason == "connection_lost"


def test_a_target_that_does_not_read_is_joined_by_a_few_and_lives(serve: Any) -> None:  # S10, S17, S53
    supervisor = serve(limits=Limits(inbound=50_000))
    function, target = supervisor.function_worker(), supervisor.actor()
    metadata = {"much": "x" * 20_000}
    joined = 0
    while True:
        client, answer = join(supervisor, function, target, metadata=metadata)
        client.close()
        if answer != 101:
            break
        joined += 1
        assert joined < 1000, "the gateway's memory is not bounded"
    assert answer == 503
    for _ in range(20):  # a hung process is not dead, however many clients come
        client, answer = join(supervisor, function, target, metadata=metadata)
        client.close()
        assert answer == 503
    supervisor.pump(0)
    assert not [record for record in supervisor.inbox if isinstance(record, m.ReportViolation)]
    for _ in range(joined):  # S45: it missed nothing
        serial = target.expect(m.Join).connection
        assert target.expect(m.Leave) == m.Leave(serial, "connection_lost", None)
    client, answer = join(supervisor, function, target)
    client.close()
    assert answer == 101


def test_a_worker_whose_channel_is_lost_on_the_way_is_fenced_alone(supervisor: Any) -> None:  # S43
    function, target = supervisor.function_worker(), supervisor.actor()
    client, answer = join(supervisor, function, target)
    with client:
        assert answer == 101
        _, hard = resource.prlimit(supervisor.process.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(supervisor.process.pid, resource.RLIMIT_NOFILE, (3, hard))
        deaf = supervisor.actor()
        report = supervisor.expect(m.ReportLost)
        assert report.worker == deaf.number
        assert "open files" in report.detail
        resource.prlimit(supervisor.process.pid, resource.RLIMIT_NOFILE, (hard, hard))
        deaf.end("noconnection")
        target.send(m.ClientSend((1,), "still here"))
        assert client.recv(100) == b"\x81\x0astill here"


def test_a_listening_socket_that_is_lost_on_the_way_is_why_a_reload_is_refused(supervisor: Any) -> None:
    function, target = supervisor.function_worker(), supervisor.actor()
    client, answer = join(supervisor, function, target)
    with client, socket.create_server(("127.0.0.1", 0)) as listener:
        assert answer == 101
        _, hard = resource.prlimit(supervisor.process.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(supervisor.process.pid, resource.RLIMIT_NOFILE, (3, hard))
        supervisor.send(m.Listener("app:other"), descriptor=listener.fileno())
        supervisor.send(m.Reconfigure(1, b"not looked at"))
        assert "open files" in supervisor.expect(m.Reconfigured).error
        resource.prlimit(supervisor.process.pid, resource.RLIMIT_NOFILE, (hard, hard))
        target.send(m.ClientSend((1,), "still here"))
        assert client.recv(100) == b"\x81\x0astill here"


def test_listening_sockets_that_are_taken_back_are_not_listened_on(supervisor: Any) -> None:
    before = supervisor.descriptors()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        supervisor.send(m.Listener("app:gateway"), descriptor=listener.fileno())
        supervisor.send(m.Reconfigure(1, b""))
        supervisor.send(m.Ping(1))
        supervisor.expect(m.Pong)
    wait_until(lambda: supervisor.descriptors() == before, message="the gateway to close it")
    function, target = supervisor.function_worker(), supervisor.actor()
    client, answer = join(supervisor, function, target)
    client.close()
    assert answer == 101
    assert not [record for record in supervisor.inbox if isinstance(record, m.Reconfigured)]


@pytest.fixture
def endless(serve: Any, tmp_path: Path) -> Any:
    """A server of a file that takes hours to read."""
    (tmp_path / "endless").touch()
    os.truncate(tmp_path / "endless", 1 << 40)
    return serve(statics=(Static("/", str(tmp_path)),), timeouts=Timeouts(write=0.2))


def test_a_client_that_takes_nothing_of_its_response_is_cut_off(endless: Any) -> None:
    before = endless.descriptors()
    with connect(endless, GET % b"/endless", receive_buffer=4096) as client:
        assert status(client) == 200
        wait_until(lambda: endless.descriptors() == before, message="the gateway to give the connection up")


def test_a_client_that_takes_its_response_is_served(endless: Any) -> None:
    with connect(endless, GET % b"/endless") as client:
        left = 50 << 20
        while left > 0:
            received = client.recv(1 << 20)
            assert received, "cut off"
            left -= len(received)


def test_a_file_is_not_read_for_a_client_that_has_left(endless: Any) -> None:
    before = endless.descriptors()
    with connect(endless, GET % b"/endless") as client:
        assert status(client) == 200
    wait_until(lambda: endless.descriptors() == before, message="the file to be closed")


@pytest.mark.parametrize(
    ("version", "headers"),
    [
        (b"1.1", b"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n"),
        (b"1.1", b"Transfer-Encoding: chunked\r\nContent-Length: 6\r\n"),
        (b"1.0", b"Transfer-Encoding: chunked\r\n"),
    ],
)
@pytest.mark.parametrize("path", [b"/post", b"/nowhere", b"/ws/x"])
def test_a_body_whose_end_is_in_doubt(
    supervisor: Any, version: bytes, headers: bytes, path: bytes
) -> None:  # RFC 9112 §6.1
    smuggled = b"POST %s HTTP/%s\r\nHost: h\r\n%s\r\n0\r\n\r\n" % (path, version, headers)
    with connect(supervisor, smuggled + GET % b"/nowhere") as client, client.makefile("rb") as stream:
        answer = stream.read()
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1") == 1
    assert b"connection: close" in answer.lower()


@pytest.mark.parametrize(
    ("answer", "hosts"),
    [
        (404, (
            b"", b"h", b"h:80", b"h:", b":80", b"192.0.2.1:8080", b"[::1]", b"[2001:db8::1]:443", b"[fe80::1%25eth0]",
            b"[v1.a:b]", b"a_b.example.", b"xn--bcher-kva.example", b"%e2%82%ac!$&'()*+,;=~", b"  h  ",
        )),
        (400, (
            b"a b", b"a/b", b"a\\b", b"<x>", b"a\x1b]0;b\x07", b"h:x", b"h:80:80", b"[::1", b"::1", b"[::1]x", b"[x]",
            b"user@h", b"b\xc3\xbccher", b"%zz", b"h?", b"h#", b'"h"', b"[fe80::1%25]",
        )),
    ],
)  # fmt: skip
def test_the_host_header(supervisor: Any, answer: int, hosts: tuple[bytes, ...]) -> None:  # RFC 9112 §3.2
    for host in hosts:
        with connect(supervisor, b"GET /nowhere HTTP/1.1\r\nHost: %s\r\n\r\n" % host) as client:
            assert (host, status(client)) == (host, answer)


def test_only_listed_hosts_are_served(serve: Any) -> None:
    supervisor = serve(hosts=("chat.example.com", "[::1]"))
    for host, answer in (
        (b"chat.example.com", 404), (b"CHAT.example.com:8080", 404), (b"[::1]:80", 404), (b"[::1]", 404),
        (b"evil.example", 421), (b"chat.example.com.evil.example", 421), (b"", 421), (b"[::2]", 421), (b"[::1", 400),
    ):  # fmt: skip
        with connect(supervisor, b"GET /nowhere HTTP/1.1\r\nHost: %s\r\n\r\n" % host) as client:
            assert (host, status(client)) == (host, answer)
    rebound = handshake().replace(b"Host: h", b"Host: evil.example\r\nOrigin: http://evil.example")
    with connect(supervisor, rebound) as client:
        assert status(client) == 421
    with connect(supervisor, b"GET /nowhere HTTP/1.0\r\n\r\n") as client:
        assert status(client) == 421


def test_an_upgrade_with_a_malformed_host(supervisor: Any) -> None:
    with connect(supervisor, handshake().replace(b"Host: h", b"Host: a b")) as client:
        assert status(client) == 400


def test_a_request_in_absolute_form(supervisor: Any) -> None:  # RFC 9112 §3.2.2
    worker = supervisor.function_worker()
    with connect(supervisor, GET % b"http://h/plain/a%20b?q=1") as client:
        request = supervisor.grant(worker)
        supervisor.answer(worker, 200, (), b"")
        assert status(client) == 200
    assert (request.path, request.query, request.parameters) == ("/plain/a b", "q=1", (("name", "a b"),))


@pytest.mark.usefixtures("capfd")
def test_a_client_that_leaves_before_the_answer_is_logged(serve: Any) -> None:
    supervisor = serve(access_log=True)
    before = supervisor.descriptors()

    def lines() -> list[str]:
        return re.findall(r"127\.0\.0\.1 (.*) [\d.]+ ms\n", captured_lines())

    with connect(supervisor, GET % b"/plain/waits"):
        supervisor.expect(m.RequestInvocation)
    wait_until(lambda: lines() == ["GET /plain/waits 499"], message=lambda: str(lines()))
    with connect(supervisor, handshake()):
        supervisor.expect(m.RequestInvocation)
    wait_until(lambda: lines()[1:] == ["GET /ws/lobby 499"], message=lambda: str(lines()))
    with connect(
        supervisor, b"POST /post HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n"
    ) as client:
        assert status(client) == 100
        client.sendall(b"half")
    wait_until(lambda: lines()[2:] == ["POST /post 499"], message=lambda: str(lines()))
    worker = supervisor.function_worker()
    with connect(supervisor, GET % b"/plain/runs"):
        supervisor.grant(worker)
    wait_until(lambda: supervisor.descriptors() == before + 1, message="the gateway to see that the client is gone")
    supervisor.answer(worker)
    wait_until(lambda: lines()[3:] == ["GET /plain/runs 499"], message=lambda: str(lines()))
    with connect(supervisor, b"POST /post HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n") as client:
        assert status(client) == 400
    with connect(supervisor, GET % b"/nowhere") as client:
        assert status(client) == 404
    wait_until(lambda: lines()[4:] == ["- - 400", "GET /nowhere 404"], message=lambda: str(lines()))


def test_listening_sockets_that_are_taken_back_take_no_later_ones_with_them(supervisor: Any, new_server: Any) -> None:
    """A gateway that was busy reads two reloads in one turn: what was sent for the second is not what the first takes back."""
    with socket.create_server(("127.0.0.1", 0)) as first, socket.create_server(("127.0.0.1", 0)) as second:
        os.kill(supervisor.process.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, supervisor.process.pid, os.WSTOPPED)
        for number, listener, configuration in (
            (1, first, b""),
            (2, second, pack(GatewayConfiguration((new_server(),)))),
        ):
            supervisor.send(m.Listener("app:gateway"), descriptor=listener.fileno())
            supervisor.send(m.Reconfigure(number, configuration))
        os.kill(supervisor.process.pid, signal.SIGCONT)
        assert supervisor.expect(m.Reconfigured) == m.Reconfigured(2, "")
        supervisor.ports["app:gateway"] = second.getsockname()[1]
    function, target = supervisor.function_worker(), supervisor.actor()
    client, answer = join(supervisor, function, target)
    client.close()
    assert answer == 101
