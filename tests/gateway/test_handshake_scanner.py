"""The fast path for a handshake's head, beside h11."""

from __future__ import annotations

import h11
from hypothesis import example, given
from hypothesis import strategies as st
from wsrelay.gateway.core.handshake_scanner import scan_handshake

BROWSER = (
    b"GET /ws/room?key=%41&key=b HTTP/1.1\r\nHost: example.com:8080\r\nConnection: keep-alive, Upgrade\r\nPragma: no-cache\r\n"
    b"User-Agent: Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101\r\nUpgrade: websocket\r\nOrigin: https://example.com\r\n"
    b"Sec-WebSocket-Version: 13\r\nAccept-Encoding: gzip, deflate, br\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\nCookie: a=b; c=\"d\"\r\n\r\n"
)  # fmt: skip
NAMES = (
    b"Host", b"host", b"Upgrade", b"Connection", b"X-Empty", b"Content-Length", b"Transfer-Encoding", b"Expect", b"Ho st", b"",
    b" Host", b"X\xe9", b"X:",
)  # fmt: skip
VALUES = (
    b"example.com", b"websocket", b"Upgrade", b"", b"0", b"chunked", b"100-continue", b"a\tb", b"  a  b\t", b"a\rb", b"\x00",
    b"\x7f", b"\xe9", b"\x0b", b"a\n b", b"a\r\n b",
)  # fmt: skip
LINES = (
    b"GET / HTTP/1.1", b"GET /a?b HTTP/1.1", b"GET /%zz HTTP/1.1", b"GET * HTTP/1.1", b"GET http://a/b HTTP/1.1", b"GET /a b HTTP/1.1",
    b"get / HTTP/1.1", b"POST / HTTP/1.1", b"GET / HTTP/1.0", b"GET / HTTP/2.0", b"GET /\xe9 HTTP/1.1", b"GET  / HTTP/1.1", b"",
)  # fmt: skip
ENDS = (b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r", b" \r\n")


def by_h11(data: bytes) -> tuple[bytes, bytes, bytes, list[tuple[bytes, bytes]], bytes] | None:
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(data)
    try:
        event = connection.next_event()
    except h11.RemoteProtocolError:
        return None
    if not isinstance(event, h11.Request):
        return None
    headers = [(name.lower(), value) for name, value in event.headers]
    return event.method, event.http_version, event.target, headers, connection.trailing_data[0]


def check(data: bytes) -> bool:
    """Compare the two. Returns whether the head was taken."""
    head = scan_handshake(data)
    if head is not None:
        assert by_h11(data) == (b"GET", b"1.1", head.target, head.headers, data[head.size :])
    return head is not None


@st.composite
def heads(draw: st.DrawFn) -> bytes:
    end = st.sampled_from(ENDS)
    fields = draw(
        st.lists(
            st.tuples(st.sampled_from(NAMES), st.sampled_from((b":", b": ", b" :", b"")), st.sampled_from(VALUES), end)
        )
    )
    usual = draw(st.sampled_from((b"Host: a\r\nUpgrade: websocket\r\n", b"Host:a\r\nupgrade:\twebsocket \r\n", b"")))
    lines = [b"".join(field) for field in fields]
    return b"".join([draw(st.sampled_from(LINES)), draw(end), *lines, usual, draw(end), draw(st.binary(max_size=5))])


@given(heads())
@example(b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n\x81\x80abcd")
def test_no_head_has_another_meaning_to_h11(data: bytes) -> None:
    check(data)


@given(st.integers(0, len(BROWSER) - 1), st.binary(max_size=3), st.integers(0, 3))
def test_nor_one_that_was_changed_anywhere(position: int, inserted: bytes, removed: int) -> None:
    check(BROWSER[:position] + inserted + BROWSER[position + removed :])


@given(st.integers(0, len(BROWSER) - 1))
def test_a_head_that_is_not_all_there_is_left_to_h11(size: int) -> None:
    assert scan_handshake(BROWSER[:size]) is None


def test_a_browsers_head_is_taken() -> None:
    assert check(BROWSER)
    assert check(BROWSER + b"\x89\x80abcd")


def test_a_head_with_a_body_or_without_a_host_is_left_to_h11() -> None:
    for line in (b"Content-Length: 0", b"Transfer-Encoding: chunked", b"Expect: 100-continue", b"Host: another"):
        assert not check(BROWSER.replace(b"Pragma: no-cache", line))
    assert not check(BROWSER.replace(b"Host:", b"Toast:"))
    assert not check(BROWSER.replace(b"Upgrade: websocket", b"Downgrade: websocket"))
