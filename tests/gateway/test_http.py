"""HTTP through a real gateway process: functions, limits, static files (S57, S58)."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import pytest
from support import raw_client
from support.waiting import wait_until
from wsrelay.kernel.wire import messages as m
from wsrelay.kernel.wire.configuration import Limits, Proxy, Route, Static, Timeouts, Tls
from wsrelay.kernel.wire.reason import make_reason

UNIX = "GET /plain/x HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"


@contextlib.contextmanager
def browser(supervisor: Any) -> Iterator[http.client.HTTPConnection]:
    with contextlib.closing(
        http.client.HTTPConnection("127.0.0.1", supervisor.ports["app:gateway"], timeout=10)
    ) as connection:
        yield connection


def fetch(connection: http.client.HTTPConnection) -> tuple[int, dict[str, str], bytes]:
    response = connection.getresponse()
    return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()


def get(supervisor: Any, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
    with browser(supervisor) as connection:
        connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        return fetch(connection)


def read_all(connection: socket.socket) -> bytes:
    with connection, connection.makefile("rb") as stream:
        return stream.read()


def test_a_request_reaches_the_handler_and_its_answer_the_client(supervisor: Any) -> None:  # S57
    worker = supervisor.function_worker()
    with browser(supervisor) as connection:
        for number in range(2):  # keep-alive, and the worker is reused
            connection.request("POST", f"/post?n={number}", b"body", {"X-Thing": "1", "X-Forwarded-For": "9.9.9.9"})
            request = supervisor.grant(worker, handshake=False)
            assert (request.method, request.path, request.query) == ("POST", "/post", f"n={number}")
            assert (request.body, request.parameters, request.remote_address) == (b"body", (), "127.0.0.1")
            assert request.host == f"127.0.0.1:{supervisor.ports['app:gateway']}"
            assert ("x-thing", "1") in request.headers
            supervisor.answer(worker, 201, [("X-A", "1"), ("Set-Cookie", "a"), ("Set-Cookie", "b")], b"made")
            status, headers, body = fetch(connection)
            assert (status, headers["x-a"], headers["content-length"], body) == (201, "1", "4", b"made")
            assert "server" not in headers


def test_the_handlers_relay_header_never_leaves(supervisor: Any) -> None:  # S44
    worker = supervisor.function_worker()
    header = [("X-WS-Relay", json.dumps({"target_pid": "room"}))]
    with browser(supervisor) as connection:
        connection.request("GET", "/ws/x")
        supervisor.grant(worker)
        supervisor.answer(worker, 200, header, b"secret")
        status, headers, body = fetch(connection)
        assert (status, headers["upgrade"]) == (426, "websocket")
        assert "x-ws-relay" not in headers
        assert b"secret" not in body
        assert supervisor.expect(m.Abandon) == m.Abandon("room", worker.pid, None)
        connection.request("GET", "/plain/x", headers={"Connection": "upgrade", "Upgrade": "websocket"})
        supervisor.grant(worker)
        supervisor.answer(worker, 200, header, b"plain")
        status, headers, body = fetch(connection)
        assert (status, body) == (200, b"plain")
        assert "x-ws-relay" not in headers


@pytest.mark.parametrize(
    ("kind", "status"), [("exception", 500), ("signal:SIGSEGV", 502), ("exit:0", 502), ("killed", 502)]
)
def test_a_handler_that_fails(supervisor: Any, kind: str, status: int) -> None:  # S58
    worker = supervisor.function_worker()
    with browser(supervisor) as connection:
        connection.request("GET", "/plain/x")
        supervisor.grant(worker)
        worker.end(kind, "Traceback (most recent call last)")
        answered, _, body = fetch(connection)
    assert answered == status
    assert b"Traceback" not in body


def test_a_response_before_death_counts(supervisor: Any) -> None:  # S14
    worker = supervisor.function_worker()
    with browser(supervisor) as connection:
        connection.request("GET", "/plain/x")
        supervisor.grant(worker)
        worker.send(m.Response(worker.pid, 200, (), b"last words"))
        worker.end("signal:SIGKILL")
        assert fetch(connection)[::2] == (200, b"last words")


def test_a_handler_that_takes_too_long(serve: Any) -> None:  # S58
    supervisor = serve(timeouts=Timeouts(request=0.2))
    worker = supervisor.function_worker()
    with browser(supervisor) as connection:
        connection.request("GET", "/plain/x")
        supervisor.grant(worker)
        assert fetch(connection)[0] == 504
        assert supervisor.expect(m.TerminateInvocation) == m.TerminateInvocation(worker.pid)
        worker.end("killed")
        connection.request("GET", "/plain/x")
        wanted = supervisor.expect(m.RequestInvocation)
        status, headers, _ = fetch(connection)
        assert (status, headers["retry-after"]) == (503, "1")
        assert supervisor.expect(m.WithdrawInvocation) == m.WithdrawInvocation(wanted.request)


def test_too_many_requests_wait(supervisor: Any) -> None:  # S58
    with contextlib.ExitStack() as stack:
        waiting = [stack.enter_context(browser(supervisor)) for _ in range(2)]
        for connection in waiting:
            connection.request("GET", "/plain/x")
            supervisor.expect(m.RequestInvocation)
        status, headers, _ = get(supervisor, "/plain/x")
        assert (status, headers["retry-after"]) == (503, "1")
    for _ in waiting:
        supervisor.expect(m.WithdrawInvocation)  # the clients are gone


@pytest.mark.parametrize("error", ["LimitExceeded", "NotFound"])
def test_a_refused_request(supervisor: Any, error: str) -> None:
    with browser(supervisor) as connection:
        connection.request("GET", "/plain/x")
        wanted = supervisor.expect(m.RequestInvocation)
        supervisor.send(m.Refused(wanted.request, error, "no"))
        assert fetch(connection)[0] == 503


@pytest.mark.parametrize(
    ("status", "headers"), [(99, ()), (101, ()), (600, ()), (200, [("a b", "c")]), (200, [("a", "b\r\nc: d")])]
)
def test_a_response_that_cannot_be_sent(supervisor: Any, status: int, headers: Any) -> None:
    worker = supervisor.function_worker()
    with browser(supervisor) as connection:
        connection.request("GET", "/plain/x")
        supervisor.grant(worker)
        supervisor.answer(worker, status, headers)
        assert fetch(connection)[0] == 500


def test_routes_and_methods(supervisor: Any) -> None:
    assert get(supervisor, "/nowhere")[0] == 404
    assert get(supervisor, "/plain/a/b")[0] == 404
    assert get(supervisor, "/plain/%ff")[0] == 400
    status, headers, _ = get(supervisor, "/plain/x", "DELETE")
    assert (status, headers["allow"]) == (405, "GET, HEAD")
    assert get(supervisor, "/post")[1]["allow"] == "POST"
    worker = supervisor.function_worker()
    with browser(supervisor) as connection:
        connection.request("HEAD", "/plain/x")
        assert supervisor.grant(worker).method == "HEAD"
        supervisor.answer(worker, 200, (), b"12345")
        status, headers, body = fetch(connection)
        assert (status, headers["content-length"], body) == (200, "5", b"")


def test_limits_of_a_request(supervisor: Any) -> None:
    assert get(supervisor, "/plain/x", Cookie="x" * 5000)[0] == 431
    assert get(supervisor, "/plain/x", **{f"h{number}": "x" * 50 for number in range(100)})[0] == 431
    with browser(supervisor) as connection:
        connection.request("POST", "/post", b"x" * 1001)
        assert fetch(connection)[0] == 413
    chunks = b"".join(b"200\r\n" + b"x" * 512 + b"\r\n" for _ in range(3))
    answer = read_all(
        raw_client.connect(supervisor, b"POST /post HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks)
    )
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert read_all(raw_client.connect(supervisor, b"nonsense\r\n\r\n")).startswith(b"HTTP/1.1 400 ")
    assert not supervisor.inbox


def test_a_head_that_does_not_come(serve: Any) -> None:
    supervisor = serve(timeouts=Timeouts(header=0.2, idle=0.2))
    assert read_all(raw_client.connect(supervisor, b"GET / HT")).startswith(b"HTTP/1.1 408 ")
    assert read_all(raw_client.connect(supervisor, b"")) == b""
    assert read_all(raw_client.connect(supervisor, b"GET /nowhere HTTP/1.1\r\nHost: h\r\n\r\n")).startswith(
        b"HTTP/1.1 404 "
    )


def test_a_body_that_does_not_come(serve: Any) -> None:
    supervisor = serve(timeouts=Timeouts(request=0.2))
    answer = read_all(
        raw_client.connect(supervisor, b"POST /post HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nhalf")
    )
    assert answer.startswith(b"HTTP/1.1 408 ")


def test_limits_of_connections(serve: Any) -> None:
    for limits in (Limits(connections=2), Limits(per_address=2)):
        supervisor = serve(limits=limits)
        with contextlib.ExitStack() as stack:
            held = [stack.enter_context(browser(supervisor)) for _ in range(2)]
            for connection in held:
                connection.request("GET", "/nowhere")
                assert fetch(connection)[0] == 404
            assert read_all(raw_client.connect(supervisor, b"")).startswith(b"HTTP/1.1 503 ")
        wait_until(lambda at=supervisor: get(at, "/nowhere")[0] == 404)  # the places are free again


def test_a_trusted_proxy_speaks_for_the_client(serve: Any) -> None:
    supervisor = serve(proxy=Proxy(("127.0.0.0/8", "10.0.0.1")))
    worker = supervisor.function_worker()
    with browser(supervisor) as connection:
        connection.request("GET", "/plain/x", headers={"X-Forwarded-For": "6.6.6.6, 1.2.3.4, 10.0.0.1"})
        assert supervisor.grant(worker).remote_address == "1.2.3.4"
        supervisor.answer(worker)
        fetch(connection)


def test_a_unix_socket(start_gateway: Any, new_server: Any) -> None:
    supervisor = start_gateway(new_server(), new_server(id="app:local", address="unix:x"))
    supervisor.expect(m.GatewayReady)
    worker = supervisor.function_worker()
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(10)
        connection.connect(supervisor.paths["app:local"])
        connection.sendall(UNIX.encode())
        assert supervisor.grant(worker).remote_address == ""
        supervisor.answer(worker, 200, (), b"local")
        assert read_all(connection).endswith(b"local")


def test_tls(serve: Any, start_gateway: Any, new_server: Any, tls: Tls) -> None:
    supervisor = serve(tls=tls)
    context = ssl.create_default_context(cafile=tls.certificate)
    with contextlib.closing(
        http.client.HTTPSConnection("localhost", supervisor.ports["app:gateway"], timeout=10, context=context)
    ) as connection:
        connection.request("GET", "/nowhere")
        assert fetch(connection)[0] == 404
    broken = start_gateway(new_server(tls=Tls(tls.certificate, tls.key + ".missing")))
    assert "key.pem.missing" in broken.expect(m.GatewayFailed).message


def test_a_configuration_that_cannot_be_served(start_gateway: Any, new_server: Any) -> None:
    route = Route("app:e", "GET", "/", "app:f", relay=True, allowed_origins=("https://*bad.example",))
    assert "https://*bad.example" in start_gateway(new_server(routes=(route,))).expect(m.GatewayFailed).message


def test_shutdown_lets_a_request_end(supervisor: Any) -> None:
    worker = supervisor.function_worker()
    with browser(supervisor) as idle, browser(supervisor) as connection:
        idle.request("GET", "/nowhere")
        assert fetch(idle)[0] == 404
        connection.request("GET", "/plain/x")
        supervisor.grant(worker)
        supervisor.send(m.Shutdown())
        supervisor.answer(worker, 200, (), b"done")
        assert fetch(connection)[::2] == (200, b"done")
        supervisor.expect(m.ShutdownComplete)


# --- static files -----------------------------------------------------------------------------------------------------


@pytest.fixture
def site(serve: Callable[..., Any], tmp_path: Path) -> Any:
    (tmp_path / "secret").write_text("secret")
    directory = tmp_path / "public"
    (directory / "sub").mkdir(parents=True)
    (directory / "index.html").write_text("<p>home")
    (directory / "sub" / "a b.js").write_text("1")
    (directory / "big.bin").write_bytes(b"x" * 300_000)
    (directory / "escape").symlink_to(tmp_path / "secret")
    (directory / "inside").symlink_to(directory / "index.html")
    statics = (Static("/files", str(directory)), Static("/", str(directory), spa=True))
    return serve(statics=statics)


def test_static_files(site: Any) -> None:
    status, headers, body = get(site, "/files/sub/a%20b.js")
    assert (status, body, headers["content-type"]) == (200, b"1", "text/javascript; charset=utf-8")
    assert get(site, "/files/sub/a%20b.js", If_None_Match=headers["etag"])[0] == 304
    assert get(site, "/files/sub/a%20b.js", If_Modified_Since=headers["last-modified"])[0] == 304
    status, headers, body = get(site, "/files/big.bin", "HEAD")
    assert (status, headers["content-length"], body) == (200, "300000", b"")
    assert get(site, "/files/big.bin")[2] == b"x" * 300_000
    assert get(site, "/files/")[2] == get(site, "/files/inside")[2] == b"<p>home"
    assert get(site, "/files/nothing")[0] == 404
    assert get(site, "/any/page")[2] == b"<p>home"  # spa
    assert get(site, "/files/big.bin", "POST")[1]["allow"] == "GET, HEAD"


@pytest.mark.parametrize(
    ("path", "there"),
    [
        ("/files", "/files/"),
        ("/files?a=1&b=%20/", "/files/?a=1&b=%20/"),
        ("/pages", "/pages/"),
        ("/files/pages/a%20b:%3F", "/files/pages/a%20b%3A%3F/"),
        ("//pages", "/pages/"),  # of this host, not of another; urljoin makes one slash of the two
    ],
)
def test_a_directory_is_redirected_to_its_own_path(site: Any, tmp_path: Path, path: str, there: str) -> None:
    for directory in (tmp_path / "public" / "pages", tmp_path / "public" / "pages" / "a b:?"):
        directory.mkdir()
        (directory / "index.html").write_text("<p>pages")
    origin = f"http://127.0.0.1:{site.ports['app:gateway']}"
    status, headers, _ = get(site, path)
    assert (status, urljoin(origin + path, headers["location"])) == (308, origin + there)
    assert get(site, there)[0] == 200
    assert get(site, path, "HEAD")[0] == 308


@pytest.mark.parametrize(
    "path",
    ["/files/../secret", "/files/%2e%2e/secret", "/files/..%2fsecret", "/files/escape", "/files/sub", "/files/%00"],
)
def test_nothing_outside_is_served(site: Any, path: str) -> None:
    answer = read_all(raw_client.connect(site, f"GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n".encode()))
    assert answer.split()[1] in (b"400", b"404")
    assert b"secret" not in answer


def test_a_reader_of_a_big_file_that_leaves(site: Any) -> None:
    with raw_client.connect(site, b"GET /files/big.bin HTTP/1.1\r\nHost: h\r\n\r\n") as connection:
        connection.recv(10)
    threads = [threading.Thread(target=get, args=(site, "/files/big.bin")) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


# --- the process ------------------------------------------------------------------------------------------------------


def test_signals_of_a_terminal_are_ignored(supervisor: Any) -> None:
    import signal

    supervisor.process.send_signal(signal.SIGINT)
    supervisor.process.send_signal(signal.SIGTERM)
    assert get(supervisor, "/nowhere")[0] == 404


def test_garbage_reason(supervisor: Any) -> None:
    """A worker that ends while it is idle touches nothing."""
    worker = supervisor.function_worker()
    worker.end("normal")
    supervisor.send(m.InvocationFinished(99, "{node@h|00000000000000aa.s.9}", make_reason("normal")))
    assert get(supervisor, "/nowhere")[0] == 404
