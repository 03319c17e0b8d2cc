"""The opening handshake: what wsproto makes of a request, and what we do (S44; RFC 6455 §4.2)."""

from __future__ import annotations

import base64

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wsproto.connection import ConnectionType
from wsproto.events import AcceptConnection, RejectConnection, Request
from wsproto.extensions import Extension
from wsproto.handshake import H11Handshake
from wsproto.utilities import RemoteProtocolError
from wsrelay.gateway.core.deflate import BoundedDeflate
from wsrelay.gateway.core.handshake import Handshake, HandshakeRefused, encode_rejection

KEY = base64.b64encode(bytes(range(16)))
GOOD = {
    b"Host": b"example.com",
    b"Connection": b"Upgrade",
    b"Upgrade": b"websocket",
    b"Sec-WebSocket-Key": KEY,
    b"Sec-WebSocket-Version": b"13",
}
OTHERS = {
    b"host": [b"example.com:80", b"[::1]", b"xn--bcher-kva.example", b"b\xfccher", b""],
    b"connection": [b"keep-alive, Upgrade", b"upgrade", b"close", b"Upgr\xe4de", b"", b" , UPGRADE ,"],
    b"upgrade": [b"WebSocket", b"h2c", b"websocket, h2c", b""],
    b"sec-websocket-key": [KEY[:-1], b"x", b"", base64.b64encode(b"x" * 17), base64.b64encode(b"y" * 16)],
    b"sec-websocket-version": [b"8", b"13, 8", b"", b"14"],
    b"sec-websocket-protocol": [b"chat", b"chat, superchat", b"", b"a,,b", b"caf\xe9"],
    b"sec-websocket-extensions": [
        b"permessage-deflate",
        b"permessage-deflate; client_max_window_bits",
        b"permessage-deflate; server_no_context_takeover; client_max_window_bits=10, permessage-deflate",
        b"permessage-deflate; server_max_window_bits=7",
        b"x-webkit-deflate-frame",
        b"permessage-d\xe9flate",
    ],
    b"content-length": [b"0", b"5"],
    b"transfer-encoding": [b"chunked"],
    b"x-other": [b"caf\xe9", b""],
}
extra_headers = st.lists(
    st.sampled_from([(name, value) for name, values in OTHERS.items() for value in values]), max_size=4
)
answers = st.lists(
    st.sampled_from(
        [
            ("sec-websocket-protocol", "chat"),
            ("sec-websocket-protocol", ""),
            ("sec-websocket-protocol", "other"),
            ("set-cookie", "a=b"),
            ("set-cookie", "c=d; Path=/"),
            ("x-name", "caf\xe9"),
            ("content-type", "text/plain"),
        ]
    ),
    max_size=4,
)


def parse(method: bytes, version: bytes, headers: list[tuple[bytes, bytes]]) -> h11.Request | None:
    """What h11 makes of a request; None if it makes nothing of it."""
    lines = [b"%s /ws HTTP/%s" % (method, version), *(b"%s: %s" % header for header in headers), b"", b""]
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(b"\r\n".join(lines))
    try:
        event = connection.next_event()
    except h11.RemoteProtocolError:
        return None
    return event if isinstance(event, h11.Request) else None


def wsproto_answers(request: h11.Request, extras: list[tuple[str, str]], compression: bool) -> tuple[object, ...]:
    """The status; with 101 the response and whether it compresses."""
    names = [name for name, _ in request.headers]
    if request.http_version != b"1.1" or names.count(b"sec-websocket-key") != 1:
        return (400,)
    if any(name in (b"content-length", b"transfer-encoding") and value != b"0" for name, value in request.headers):
        return (400,)
    try:
        key = base64.b64decode(dict(request.headers)[b"sec-websocket-key"], validate=True)
    except ValueError:
        return (400,)
    if len(key) != 16:
        return (400,)
    handshake = H11Handshake(ConnectionType.SERVER)
    head = [b"%s %s HTTP/1.1" % (request.method, request.target), *(b"%s: %s" % each for each in request.headers)]
    try:
        handshake.receive_data(b"\r\n".join([*head, b"", b""]))
    except RemoteProtocolError as problem:
        hint = problem.event_hint
        return (426,) if isinstance(hint, RejectConnection) and hint.status_code == 426 else (400,)
    except ValueError:
        return (400,)
    offered = next(event for event in handshake.events() if isinstance(event, Request)).subprotocols
    chosen = next((value for name, value in extras if name == "sec-websocket-protocol"), None)
    supported: list[Extension] = [BoundedDeflate(1000)] if compression else []
    accepted = AcceptConnection(
        subprotocol=chosen if chosen in offered else None,
        extensions=supported,
        extra_headers=[
            (name.encode(), value.encode("latin-1"))
            for name, value in extras
            if name not in ("content-type", "sec-websocket-protocol")
        ],
    )
    return 101, bytes(handshake.send(accepted)), any(extension.enabled() for extension in supported)


def ours(request: h11.Request, extras: list[tuple[str, str]], compression: bool) -> tuple[object, ...]:
    try:
        handshake = Handshake(request.method, request.http_version, list(request.headers))
    except HandshakeRefused as refused:
        return (refused.answer.status,)
    response, extensions = handshake.accept(extras, 1000, compression=compression)
    return 101, response, bool(extensions)


@settings(max_examples=500)
@given(
    st.sampled_from([b"GET", b"GET", b"GET", b"POST"]),
    st.sampled_from([b"1.1", b"1.1", b"1.1", b"1.0"]),
    st.sets(st.sampled_from(sorted(GOOD)), max_size=2),
    extra_headers,
    answers,
    st.booleans(),
    st.randoms(use_true_random=False),
)
def test_the_answer_is_the_one_of_wsproto(  # S44
    method: bytes,
    version: bytes,
    missing: set[bytes],
    more: list[tuple[bytes, bytes]],
    extras: list[tuple[str, str]],
    compression: bool,
    random: object,
) -> None:
    headers = [(name, value) for name, value in GOOD.items() if name not in missing] + more
    random.shuffle(headers)  # type: ignore[attr-defined]
    request = parse(method, version, headers)
    if request is not None:
        assert ours(request, extras, compression) == wsproto_answers(request, extras, compression)


def test_the_example_of_the_standard() -> None:  # RFC 6455 §1.3
    headers = [(name.lower(), value) for name, value in GOOD.items() if name != b"Sec-WebSocket-Key"]
    handshake = Handshake(b"GET", b"1.1", [*headers, (b"sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZQ==")])
    response, extensions = handshake.accept([("set-cookie", "a=b")], 1000, compression=True)
    assert response == (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nset-cookie: a=b\r\n\r\n"
    )
    assert extensions == []


@pytest.mark.parametrize("version", [b"8", b"14"])
def test_another_version_is_told_ours(version: bytes) -> None:  # RFC 6455 §4.4
    headers = [(name.lower(), value) for name, value in GOOD.items()]
    with pytest.raises(HandshakeRefused) as refused:
        Handshake(b"GET", b"1.1", [*headers, (b"sec-websocket-version", version)])
    response = encode_rejection(refused.value.answer)
    assert response.startswith(b"HTTP/1.1 426 ")
    assert b"sec-websocket-version: 13\r\n" in response.lower()
