"""The small pure parts: relay header, origins, proxies, routes, places, answers."""

from __future__ import annotations

import json
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsrelay.gateway.core.answers import answer_for_end, clean_answer, framing_headers
from wsrelay.gateway.core.forwarded import Client, TrustedProxies
from wsrelay.gateway.core.origin import AllowedOrigins
from wsrelay.gateway.core.relay_header import MalformedHeader, RelayHeader, find_relay_header, parse_relay_header
from wsrelay.gateway.core.routing import NoMatch, RouteMatch, Router, StaticMatch, decode_path
from wsrelay.gateway.core.slots import Slots
from wsrelay.kernel.wire.configuration import Route, Static
from wsrelay.kernel.wire.hold import Hold
from wsrelay.kernel.wire.reason import make_reason

PID = "{node@app:processes|00000000000000aa.s.7}"

# --- X-WS-Relay -------------------------------------------------------------------------------------------------------


def test_all_fields_of_the_relay_header() -> None:
    text = json.dumps(
        {"target_pid": PID, "message_topic": "chat", "heartbeat_interval": "1m30s", "metadata": {"a": [1, None, "ü"]}}
    )
    assert parse_relay_header(text) == RelayHeader(PID, "chat", 90.0, msgpack.packb({"a": [1, None, "ü"]}))
    assert parse_relay_header('{"target_pid": "room"}') == RelayHeader("room", "ws.message", 0.0, msgpack.packb({}))


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "object"), ("[]", "object"), ("null", "object"), ("{", "object"), ("[" * 100_000, "object"),
        ("{}", "target_pid"), ('{"target_pid": 7}', "target_pid"), ('{"target_pid": "{x}"}', "target_pid"),
        ('{"target_pid": ""}', "target_pid"),
        ('{"target_pid": "r", "target": 1}', "'target'"),
        ('{"target_pid": "r", "message_topic": "ws.join"}', "message_topic"),
        ('{"target_pid": "r", "message_topic": "@x"}', "message_topic"),
        ('{"target_pid": "r", "message_topic": ""}', "message_topic"),
        ('{"target_pid": "r", "message_topic": "\\ud800"}', "message_topic"),
        (json.dumps({"target_pid": "r", "message_topic": "x" * 257}), "message_topic"),
        ('{"target_pid": "r", "heartbeat_interval": "-1s"}', "heartbeat_interval"),
        ('{"target_pid": "r", "heartbeat_interval": -1}', "heartbeat_interval"),
        ('{"target_pid": "r", "heartbeat_interval": "soon"}', "heartbeat_interval"),
        ('{"target_pid": "r", "heartbeat_interval": true}', "heartbeat_interval"),
        ('{"target_pid": "r", "heartbeat_interval": NaN}', "object"),
        ('{"target_pid": "r", "metadata": []}', "metadata"),
        ('{"target_pid": "r", "metadata": {"a": 1e400}}', None),
        ('{"target_pid": "r", "metadata": {"a": 99999999999999999999}}', "metadata"),
        ('{"target_pid": "r", "metadata": {"a": "\\ud800"}}', "metadata"),
        ('{"target_pid": "r", "on_exit": "stay"}', "on_exit"), ('{"target_pid": "r", "on_exit": ["hold"]}', "on_exit"),
        ('{"target_pid": "r", "hold": {}}', "hold: expected only with on_exit"),
        ('{"target_pid": "r", "on_exit": "close", "hold": {}}', "hold: expected only with on_exit"),
        ('{"target_pid": "r", "on_exit": "hold", "hold": 10}', "hold: expected an object"),
        ('{"target_pid": "r", "on_exit": "hold", "hold": {"four": "1s"}}', "unknown field 'four'"),
        *((f'{{"target_pid": "r", "on_exit": "hold", "hold": {{"for": {value}}}}}', "hold: for: expected a duration")
          for value in ('"soon"', "-1", "0", '"0s"', "null", "true")),
        *((f'{{"target_pid": "r", "on_exit": "hold", "hold": {{"bytes": {value}}}}}', "hold: bytes: expected a whole")
          for value in ("0", "-1", "1.5", '"1MiB"', "true", "null", str((16 << 20) + 1))),
    ],
)  # fmt: skip
def test_a_malformed_relay_header_names_the_field(text: str, named: str | None) -> None:  # S44, S55
    if named is None:  # JSON's large numbers become infinite, which the wire carries
        parse_relay_header(text)
        return
    with pytest.raises(MalformedHeader, match=named) as caught:
        parse_relay_header(text)
    assert caught.value.target in (None, "r")


def test_a_relay_header_may_ask_for_a_hold() -> None:  # S56
    def hold(**fields: Any) -> Hold | None:
        return parse_relay_header(json.dumps({"target_pid": "room", **fields})).hold

    assert hold() is hold(on_exit="close") is hold(on_exit=None, hold=None) is None
    assert hold(on_exit="hold") == hold(on_exit="hold", hold={}) == Hold("room", 10.0, 1 << 20)
    assert hold(on_exit="hold", hold={"for": "1m30s", "bytes": 7}) == Hold("room", 90.0, 7)
    assert hold(on_exit="hold", hold={"for": 0.5}) == Hold("room", 0.5, 1 << 20)
    with pytest.raises(MalformedHeader, match="registered name: a PID does not come back"):
        parse_relay_header(json.dumps({"target_pid": PID, "on_exit": "hold"}))


def test_two_relay_headers_are_malformed() -> None:
    assert find_relay_header([("a", "b")]) is None
    assert find_relay_header([("x-ws-RELAY", "b")]) == "b"
    with pytest.raises(MalformedHeader, match="more than once"):
        find_relay_header([("X-WS-Relay", "b"), ("x-ws-relay", "b")])


@given(st.text() | st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(
        st.sampled_from(["target_pid", "message_topic", "heartbeat_interval", "metadata", "on_exit", "hold", "for", "bytes"])
        | st.text(), inner | st.just("hold")),
).map(json.dumps))  # fmt: skip
def test_any_relay_header_is_a_value_or_malformed(text: str) -> None:
    try:
        header = parse_relay_header(text)
    except MalformedHeader:
        return
    assert header.heartbeat >= 0
    assert isinstance(msgpack.unpackb(header.metadata), dict)


# --- origins ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("listed", "origin", "scheme", "host", "allowed"),
    [
        ((), None, "http", "a.example", True),
        ((), "http://a.example", "http", "a.example", True),
        ((), "HTTP://A.example:80", "http", "a.EXAMPLE", True),
        ((), "https://a.example", "https", "a.example:443", True),
        ((), "http://a.example", "https", "a.example", False),
        ((), "http://a.example:81", "http", "a.example", False),
        ((), "http://[::1]:8080", "http", "[::1]:8080", True),
        ((), "null", "http", "a.example", False),
        ((), "", "http", "", False),
        ((), "http://a.example/", "http", "a.example", False),
        ((), "http://a.example@b", "http", "b", False),
        ((), "http://a.example, http://b", "http", "a.example", False),
        ((), "http://*", "http", "*", False),
        (("https://a.example",), None, "http", "b", True),
        (("https://a.example",), "http://b", "http", "b", False),
        (("https://a.example",), "https://a.example:443", "http", "b", True),
        (("https://*.example",), "https://a.example", "http", "b", True),
        (("https://*.example",), "https://a.b.example", "http", "b", False),
        (("https://*.example",), "https://.example", "http", "b", False),
        (("https://*.example",), "https://*.example", "http", "b", False),
        (("https://*.example",), "https://evil-example", "http", "b", False),
        (("https://*.*.example:8443",), "https://a.b.example:8443", "http", "b", True),
        (("null",), "null", "http", "b", True),
        (("null",), "http://b", "http", "b", False),
        (("*",), "http://b", "http", "a", True),
        (("*",), "null", "http", "a", True),
        (("*",), "chrome-extension://abc", "http", "a", True),
    ],
)
def test_origins(listed: tuple[str, ...], origin: str | None, scheme: str, host: str, allowed: bool) -> None:  # S44
    assert AllowedOrigins(listed).allow(origin, scheme=scheme, host=host) is allowed


@pytest.mark.parametrize("text", ["**", "https://a*.example", "a.example", "https://a.example/path", "https://", ""])
def test_malformed_patterns(text: str) -> None:
    with pytest.raises(ValueError, match="expected an origin"):
        AllowedOrigins([text])


@given(st.text(), st.text())
def test_a_foreign_origin_is_never_the_own(origin: str, host: str) -> None:
    if AllowedOrigins().allow(origin, scheme="http", host=host):
        assert origin.lower().removesuffix(":80") == "http://" + host.lower().removesuffix(":80")


# --- proxies ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("trusted", "peer", "forwarded", "client"),
    [
        ((), "1.1.1.1", "2.2.2.2", "1.1.1.1"),
        (("1.1.1.1",), "1.1.1.1", "2.2.2.2", "2.2.2.2"),
        (("1.1.1.1",), "1.1.1.1", "6.6.6.6, 2.2.2.2", "2.2.2.2"),
        (("1.0.0.0/8", "2.2.2.2"), "1.1.1.1", "6.6.6.6, 2.2.2.2", "6.6.6.6"),
        (("1.1.1.1",), "1.1.1.1", "2.2.2.2, nonsense", "1.1.1.1"),
        (("1.1.1.1",), "::ffff:1.1.1.1", "2001:db8::1", "2001:db8::1"),
        (("unix",), "", "2.2.2.2", "2.2.2.2"),
        (("1.1.1.1",), "1.1.1.1", "2.2.2.2:80", "2.2.2.2"),
        (("1.1.1.1", "3.3.3.3"), "1.1.1.1", "2.2.2.2:80, 3.3.3.3:4711", "2.2.2.2"),
        (("1.1.1.1",), "1.1.1.1", "[2001:db8::1]:80", "2001:db8::1"),
        (("1.1.1.1",), "1.1.1.1", "[2001:db8::1]", "2001:db8::1"),
        (("1.1.1.1",), "1.1.1.1", "fe80::1%eth0.1", "fe80::1%eth0.1"),
        (("1.1.1.1",), "1.1.1.1", "[fe80::1%eth0]:80", "fe80::1%eth0"),
        *[
            (("1.1.1.1",), "1.1.1.1", f"nonsense, {malformed}", "1.1.1.1")
            for malformed in (
                "fe80::1%\x1b]0;pwn\x07",
                "fe80::1%a b",
                "fe80::1%é",
                "[fe80::1%\n]:80",
                "2.2.2.2:",
                "2.2.2.2:x",
                "2.2.2.2:80:80",
                "[2.2.2.2",
                "[]",
                "[]:80",
                ":80",
                "",
                "2001:db8::1]:80",
                "2.2.2.2:123456",
            )
        ],
        ((), "", "2.2.2.2", ""),
    ],
)
def test_forwarded_addresses(trusted: tuple[str, ...], peer: str, forwarded: str, client: str) -> None:
    headers = [(b"x-forwarded-for", forwarded.encode("latin-1")), (b"x-forwarded-proto", b"https")]
    scheme = "https" if client != peer or "nonsense" in forwarded else "http"
    assert TrustedProxies(trusted).resolve(peer, "http", headers) == Client(client, scheme)


# --- routes -----------------------------------------------------------------------------------------------------------


def route(path: str, method: str = "GET") -> Route:
    return Route(f"{method} {path}", method, path, "f")


ROUTER = Router(
    [route("/{any}"), route("/fixed"), route("/a/{x}/c"), route("/a/b/{y}"), route("/f/{rest...}"), route("/fixed", "PUT"),
     route("/")],
    [Static("/f", "/d1"), Static("/s", "/d2"), Static("/s/deep", "/d3")],
)  # fmt: skip


@pytest.mark.parametrize(
    ("method", "path", "found", "parameters"),
    [
        ("GET", "/", "GET /", {}),
        ("HEAD", "/fixed", "GET /fixed", {}),
        ("PUT", "/fixed", "PUT /fixed", {}),
        ("GET", "/other", "GET /{any}", {"any": "other"}),
        ("GET", "/a%2Fb", "GET /{any}", {"any": "a/b"}),
        ("GET", "/%C3%BC", "GET /{any}", {"any": "ü"}),
        ("GET", "/a/b/c", "GET /a/b/{y}", {"y": "c"}),
        ("GET", "/a/x/c", "GET /a/{x}/c", {"x": "x"}),
        ("GET", "/f/", "GET /f/{rest...}", {"rest": ""}),
        ("GET", "/f/a/b%20c", "GET /f/{rest...}", {"rest": "a/b c"}),
        ("GET", "http://host/fixed", "GET /fixed", {}),
    ],
)
def test_routes(method: str, path: str, found: str, parameters: dict[str, str]) -> None:
    match = ROUTER.match(method, path)
    assert isinstance(match, RouteMatch)
    assert (match.route.endpoint, dict(match.parameters)) == (found, parameters)


@given(
    st.lists(st.sampled_from(("/", "/a", "/a/b", "/{x}", "/a/{x}", "/{rest...}", "/a/.", "/a//b")), unique=True),
    st.data(),
)
def test_a_path_is_found_however_it_is_spelt(paths: list[str], data: st.DataObject) -> None:
    """A path of a route without parameters is looked up as it stands; escaped, it is searched for."""
    router = Router([route(path, method) for path in paths for method in ("GET", "PUT")], [Static("/a", "/d")])
    path = data.draw(st.sampled_from(("/", "/a", "/a/b", "/a/.", "/a//b", "/c")))
    escaped = "".join(each if each == "/" else f"%{ord(each):02x}" for each in path)
    for method in ("GET", "HEAD", "PUT", "POST"):
        assert router.match(method, path) == router.match(method, escaped)


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/a/x/d", NoMatch(404)),
        ("GET", "/fixed/", NoMatch(404)),
        ("DELETE", "/fixed", NoMatch(405, ("GET", "HEAD", "PUT"))),
        ("POST", "/s/x", NoMatch(405, ("GET", "HEAD"))),
        ("GET", "/s/deep/x", StaticMatch(Static("/s/deep", "/d3"), ("x",))),
        ("GET", "/s//x/", StaticMatch(Static("/s", "/d2"), ("x",))),
        ("GET", "/s/../x", NoMatch(400)),
        ("GET", "/s/%2e%2E/x", NoMatch(400)),
        ("GET", "/%ff", NoMatch(400)),
        ("GET", "*", NoMatch(400)),
    ],
)
def test_what_has_no_route(method: str, path: str, expected: Any) -> None:
    assert ROUTER.match(method, path) == expected


@given(st.text(alphabet=st.characters(min_codepoint=33, max_codepoint=126)))
def test_no_path_climbs(path: str) -> None:
    segments = decode_path("/" + path)
    assert segments is None or not {".", ".."} & set(segments)


# --- places, answers --------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.booleans(), st.sampled_from(["", "a", "b"]))), st.integers(0, 5), st.integers(0, 3))
def test_places_are_counted(steps: list[tuple[bool, str]], total: int, per_address: int) -> None:
    slots, held = Slots(total, per_address), []
    for take, address in steps:
        if take:
            free = len(held) < total and not (address and per_address and held.count(address) >= per_address)
            assert slots.acquire(address) is free
            if free:
                held.append(address)
        elif address in held:
            held.remove(address)
            slots.release(address)
        slots.check_invariants()
        assert slots.taken == len(held)


def test_a_handlers_headers_are_cleaned() -> None:
    answer = clean_answer(
        200, [("X-WS-Relay", "{}"), ("Connection", "x"), ("Content-Length", "9"), ("X-A", " b ")], b"body"
    )
    assert framing_headers(answer) == [(b"x-a", b"b"), (b"content-length", b"4")]
    assert framing_headers(clean_answer(204, [], b"body")) == []


def test_a_handler_killed_by_a_link_did_not_raise() -> None:
    # S25, S58: it dies with the other's reason, which is not its own answer
    raised = make_reason("exception", "ValueError: boom")
    assert answer_for_end(raised).status == 500
    assert answer_for_end(raised._replace(origin="{node@host|0123456789abcdef.s.1}")).status == 502
