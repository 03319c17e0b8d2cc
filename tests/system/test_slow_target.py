"""A handler that is slow and reads on, and clients whose compressed messages are a thousand times as large as what they send: the
gateway's memory stays bounded (S53, invariant 11)."""

from __future__ import annotations

import contextlib
import re
import socket
import zlib
from pathlib import Path

from support.raw_client import PATIENCE, frame, handshake, head_of_answer
from support.runtime import GATEWAY, Runtime, actor, application, endpoint, running_runtime

APP = """
    import zlib
    from wsrelay.workers import http, process

    def join():
        http.response().relay_to("slow")

    def slow():
        '''Works on each message for as long as it takes to compress it, and answers it.'''
        for message in process.inbox():
            if message.topic == "ws.message":
                zlib.compress(message.payload["data"], 1)
                process.send(message.payload["client_pid"], "ws.send", {"data": "x"})
"""
SERVICE = {
    "name": "slow.s",
    "kind": "process.service",
    "process": "slow",
    "host": "processes",
    "register": "slow",
    "lifecycle": {"stop_timeout": "0.1s"},
}
CLIENTS, MESSAGES, SIZE = 10, 20, 1 << 20
ANSWER = b"\xc1"
OFFER = b"Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover\r\n"


def peak_memory(runtime: Runtime) -> int:
    """The most that the gateway's resident memory has been, in bytes."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{runtime.gateway}/status").read_text())
    assert found is not None
    return int(found[1]) << 10


def test_a_slow_target_and_clients_that_send_bombs(tmp_path: Path) -> None:
    gateway = {**GATEWAY, "limits": {"compression": True}}
    entries = [gateway, *application(endpoint("/join", "join"), actor("slow"), SERVICE)[1:]]
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = frame(2, (compressor.compress(bytes(SIZE)) + compressor.flush(zlib.Z_FULL_FLUSH))[:-4], rsv=0x40)
    with running_runtime(tmp_path, entries, {"app.py": APP}) as runtime, contextlib.ExitStack() as lines:
        clients = []
        for _ in range(CLIENTS):
            client = lines.enter_context(socket.create_connection(("127.0.0.1", runtime.port()), PATIENCE))
            client.sendall(handshake(b"/join", OFFER))
            assert b" 101 " in head_of_answer(client)
            clients.append(client)
        before = peak_memory(runtime)
        for client in clients:
            client.sendall(bomb * MESSAGES)
        for client in clients:
            answers = b""
            while answers.count(ANSWER) < MESSAGES:
                received = client.recv(4096)
                assert received, "the line has ended"
                answers += received
        assert peak_memory(runtime) - before < 40 << 20
