"""TLS of a real gateway process: close codes, and clients that close their side of the line (S46, S49)."""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import os
import socket
import ssl
from typing import Any

import pytest
from support import raw_client
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.typing import Origin
from wsrelay.kernel.wire import messages as m
from wsrelay.kernel.wire.configuration import Tls


@pytest.mark.parametrize("uvloop", [True, False])
def test_websocket_over_tls(serve: Any, tls: Tls, uvloop: bool) -> None:
    """The close codes come through TLS too, although its transports cannot close one side (S49)."""
    supervisor = serve(tls=tls, uvloop=uvloop)
    context = ssl.create_default_context(cafile=tls.certificate)
    function, target = supervisor.function_worker(), supervisor.actor()
    for breaks in (True, False):
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            url = f"wss://localhost:{supervisor.ports['app:gateway']}/ws/x"
            opening = pool.submit(connect, url, ssl=context, origin=Origin(url[:-5].replace("wss", "https")))
            supervisor.grant(function)
            supervisor.answer(function, headers=[("X-WS-Relay", json.dumps({"target_pid": target.pid}))])
            supervisor.admit(target)
            client = opening.result()
        with client:
            serial = target.expect(m.Join).connection
            client.send("x" * 50_000)
            assert target.expect(m.ClientMessage).data == "x" * 50_000
            if breaks:
                client.socket.sendall(b"\x83\x80\0\0\0\0")
            else:
                target.send(m.ClientClose((serial,), 4000, ""))
            with pytest.raises(ConnectionClosed) as caught:
                client.recv(timeout=10)
            assert caught.value.rcvd is not None
            assert caught.value.rcvd.code == (1002 if breaks else 4000)
        assert target.expect(m.Leave).code == (1002 if breaks else 4000)


def close_own_side(client: socket.socket, how: str) -> None:
    """End what this client sends, with TLS's own word, that of TCP, or both. It can still be sent to."""
    if isinstance(client, ssl.SSLSocket) and how != "FIN":
        client.setblocking(False)
        with contextlib.suppress(ssl.SSLError):  # unwrap would wait for the answer, and takes nothing else
            client.unwrap()
        client.settimeout(10)
    if how != "close_notify":
        with socket.socket(fileno=os.dup(client.fileno())) as line:
            line.shutdown(socket.SHUT_WR)


def ends_with_close_notify(client: ssl.SSLSocket) -> bool:
    """Read to the end of the line; whether TLS said that it is the end."""
    while True:
        try:
            if not client.recv(4096):
                return True
        except ssl.SSLZeroReturnError:
            return True
        except ssl.SSLEOFError:
            return False
        except ssl.SSLError as problem:  # it had been sent before our close_notify came
            if problem.reason != "APPLICATION_DATA_AFTER_CLOSE_NOTIFY":
                raise


@pytest.mark.parametrize("how", ["close_notify", "FIN", "both"])
@pytest.mark.parametrize("size", [3, 2000])
@pytest.mark.parametrize("uvloop", [True, False])
def test_what_a_client_sent_before_it_closed_its_side_of_tls(
    serve: Any, tls: Tls, uvloop: bool, size: int, how: str
) -> None:  # S46
    """More messages than one turn decodes, and more bytes than a worker's queue has room for, and then the end of its side: all are
    handled, and so is the Close frame behind them. Only uvloop drops what it has not decrypted when the end of TCP comes."""
    supervisor = serve(tls=tls, uvloop=uvloop)
    whole = not uvloop or size == 3 or how == "close_notify"
    context = ssl.create_default_context(cafile=tls.certificate)
    function, target = supervisor.function_worker(), supervisor.actor()
    for last, leave in ((b"", ("connection_lost", None)), (raw_client.frame(8, b"\x03\xe8"), ("client_closed", 1000))):
        with (
            raw_client.connect(supervisor) as line,
            context.wrap_socket(line, server_hostname="localhost", suppress_ragged_eofs=False) as client,
        ):
            client.sendall(raw_client.handshake())
            supervisor.grant(function)
            supervisor.answer(function, headers=[("X-WS-Relay", json.dumps({"target_pid": target.pid}))])
            supervisor.admit(target)
            assert raw_client.status(client) == 101
            sent = [f"{number:0{size}}" for number in range(1000)]
            client.sendall(b"".join(raw_client.frame(1, text.encode()) for text in sent) + last)
            close_own_side(client, how)
            target.expect(m.Join)
            left = target.expect(m.Leave)
            taken = [record.data for record in target.inbox]
            target.inbox.clear()
            if whole:
                assert (taken, (left.reason, left.code)) == (sent, leave)
            else:
                assert taken == sent[: len(taken)]
            ends_with_close_notify(client)  # a reset would raise


@pytest.mark.parametrize("how", ["close_notify", "FIN", "both", "plain"])
@pytest.mark.parametrize("uvloop", [True, False])
def test_a_client_that_closes_its_side_after_a_request_has_gone(serve: Any, tls: Tls, uvloop: bool, how: str) -> None:
    supervisor = serve(tls=None if how == "plain" else tls, uvloop=uvloop)
    context = ssl.create_default_context(cafile=tls.certificate)
    with raw_client.connect(supervisor) as line, contextlib.ExitStack() as stack:
        client: socket.socket = line
        if how != "plain":
            client = stack.enter_context(
                context.wrap_socket(line, server_hostname="localhost", suppress_ragged_eofs=False)
            )
        client.sendall(raw_client.GET % b"/plain/x")
        close_own_side(client, how)
        asked = supervisor.expect(m.RequestInvocation)
        assert supervisor.expect(m.WithdrawInvocation).request == asked.request
        if isinstance(client, ssl.SSLSocket):
            assert ends_with_close_notify(client) or how != "close_notify"
        else:
            assert client.recv(4096) == b""
