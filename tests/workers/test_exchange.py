"""Request and response as a handler sees them (S57)."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsrelay.kernel.wire import messages as wire
from wsrelay.kernel.wire.errors import Invalid, LimitExceeded
from wsrelay.kernel.wire.pid import Pid
from wsrelay.workers.core.exchange import MAX_BODY, Request, Response

TARGET = Pid.make("n", "h", "0123456789abcdef", "s", 1)


def request(**fields: Any) -> Request:
    made = wire.Request("pid", "GET", "/a", (("room", "x y"),), "", (), b"", "10.0.0.1", "example.com:80")
    return Request(made._replace(**fields))


def test_request() -> None:
    headers = (("accept", "a"), ("accept", "b"), ("cookie", 'k="v w"; x=1'), ("cookie", "x=2; broken; y="))
    made = request(query="a=1&a=2&b=%20%FF&c", headers=headers, body=b'{"n": 1}')
    assert (made.method, made.path, made.remote_addr, made.host) == ("GET", "/a", "10.0.0.1", "example.com:80")
    assert (made.param("room"), made.param("none")) == ("x y", None)
    assert [made.query(name) for name in "abcd"] == ["1", " \ufffd", "", None]
    assert (made.header("Accept"), made.header("x-none")) == ("a, b", None)
    assert [made.cookie(name) for name in ("k", "x", "y", "broken")] == ["v w", "1", "", None]
    assert made.body() == b'{"n": 1}'
    assert made.json() == {"n": 1}


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 100_000])
def test_malformed_json(body: bytes) -> None:
    with pytest.raises(Invalid):
        request(body=body).json()


@given(st.text(), st.text())
def test_any_query_and_cookie_is_read(query: str, cookie: str) -> None:
    made = request(query=query, headers=(("cookie", cookie),))
    made.query("a")
    made.cookie("a")


@pytest.mark.parametrize(
    ("writes", "content_type", "body"),
    [
        (["ü"], "text/plain; charset=utf-8", "ü".encode()),
        ([b"\x00", "x"], "application/octet-stream", b"\x00x"),
        ([], None, b""),
    ],
)
def test_content_type_follows_the_first_write(writes: list[Any], content_type: str | None, body: bytes) -> None:
    response = Response()
    for data in writes:
        response.write(data)
    made = response.to_wire("pid")
    assert (made.status, made.body) == (200, body)
    assert dict(made.headers).get("Content-Type") == content_type


def test_json_and_headers() -> None:
    response = Response()
    response.set_status(201)
    response.set_header("content-type", "x/y")
    response.write_json({"a": "ü"})
    response.set_header("X-A", "1")
    response.set_header("x-a", " 2 ")
    response.set_header("Set-Cookie", "a=1")
    response.set_header("Set-Cookie", "b=2")
    made = response.to_wire("pid")
    assert made.status == 201
    assert made.headers == (("content-type", "x/y"), ("x-a", "2"), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"))
    assert made.body == '{"a":"ü"}'.encode()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("", "x"),
        ("a b", "x"),
        ("a:", "x"),
        ("ü", "x"),
        ("a", "x\r\ny"),
        ("a", "x\ny"),
        ("a", "\0"),
        ("a", 1),
        (b"a", "x"),
        ("a", "€"),
        ("Content-Length", "1"),
        ("transfer-encoding", "chunked"),
        ("X-WS-Relay", "\ud800"),
    ],
)
def test_bad_headers(name: Any, value: Any) -> None:
    with pytest.raises(Invalid):
        Response().set_header(name, value)


@pytest.mark.parametrize("status", [199, 600, "200", True, None, 200.0])
def test_bad_status(status: Any) -> None:
    with pytest.raises(Invalid):
        Response().set_status(status)


def test_bad_bodies() -> None:
    response = Response()
    for bad in (1, None, {"a": 1}, "\ud800"):
        with pytest.raises(Invalid):
            response.write(bad)  # type: ignore[arg-type]
    with pytest.raises(Invalid, match="is of type bytes"):
        response.write_json({"a": b""})
    response.write(bytes(MAX_BODY))
    with pytest.raises(LimitExceeded):
        response.write(b"x")
    with pytest.raises(LimitExceeded):
        response.set_header("a", "x" * 70_000)


def test_relay_to() -> None:
    response = Response()
    response.relay_to(TARGET, message_topic="t", heartbeat_interval=1.5, metadata={"a": "€"})
    ((name, value),) = response.to_wire("pid").headers
    assert name == "X-WS-Relay"
    relay = {"target_pid": TARGET, "message_topic": "t", "heartbeat_interval": "1500ms", "metadata": {"a": "€"}}
    assert json.loads(value) == relay
    response.relay_to("room", metadata=None)
    assert json.loads(response.to_wire("pid").headers[0][1]) == {"target_pid": "room"}
    response.relay_to("room", on_exit="hold", hold={"for": "1m", "bytes": 4096})
    held = {"target_pid": "room", "on_exit": "hold", "hold": {"for": "1m", "bytes": 4096}}
    assert json.loads(response.to_wire("pid").headers[0][1]) == held  # S56


def test_the_relay_header_says_whom_to_join() -> None:  # S44
    response = Response()
    assert response.relay_target is None
    for header, target in (
        ('{"target_pid": "room"}', "room"),
        ('{"target_pid": "room", "metadata": 7}', "room"),
        ('{"target_pid": 7}', None),
        ('{"target_pid": "\\ud800"}', None),
        ("[]", None),
        ("{", None),
    ):
        response.set_header("x-ws-relay", header)
        assert response.relay_target == target


def test_whom_the_handler_has_named_is_known_also_if_the_call_raised() -> None:  # S44
    assert Response().named_target is None
    for fields in (
        {},
        {"heartbeat_interval": "often"},
        {"metadata": {"a": "x" * 100_000}},
        {"hold": {}},
        {"topic": "t"},
    ):
        response = Response()
        response.relay_to("another")
        with contextlib.suppress(Invalid, LimitExceeded):
            response.relay_to(TARGET, **fields)
        assert response.named_target == TARGET, fields
        assert response.relay_target == ("another" if fields else TARGET), "the answer is as it was"
        with pytest.raises(Invalid):
            response.relay_to("")
        assert response.named_target == TARGET
    for header in ('{"target_pid": "room", "metadata": "%s"}' % ("x" * 100_000), '{"target_pid":\n"room"}'):
        response = Response()
        with pytest.raises((Invalid, LimitExceeded)):
            response.set_header("X-WS-Relay", header)
        assert (response.named_target, response.relay_target) == ("room", None)


@pytest.mark.parametrize(
    ("pid", "fields"),
    [
        ("{x", {}),
        (None, {}),
        ("room", {"topic": "t"}),
        ("room", {"message_topic": "@t"}),
        ("room", {"heartbeat_interval": -1}),
        ("room", {"metadata": []}),
        ("room", {"on_exit": "stay"}),
        ("room", {"hold": {"for": "1s"}}),
        ("room", {"on_exit": "hold", "hold": []}),
        ("room", {"on_exit": "hold", "hold": {"for": "soon"}}),
        ("room", {"on_exit": "hold", "hold": {"bytes": 0}}),
        ("room", {"on_exit": "hold", "hold": {"seconds": 1}}),
        (TARGET, {"on_exit": "hold"}),
        ("room", {"metadata": {"a": b""}}),
    ],
)
def test_bad_relays(pid: Any, fields: dict[str, Any]) -> None:
    with pytest.raises(Invalid):
        Response().relay_to(pid, **fields)
