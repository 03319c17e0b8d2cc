"""The load generator. A process of its own, so that its work is not counted as a server's.

Every message is masked before the clock runs. What comes back is compared with what must come back, byte by byte: the
echoes of one connection are one long, known stream. Prints one line when it starts to measure and one with the result.
"""

from __future__ import annotations

import argparse
import json
import random
import select
import socket
import statistics
import sys
import time
from dataclasses import dataclass, field

from .frames import CLOSE, TEXT, client_frame, connect, server_frame

DISTINCT = 64
"""Different messages; they are sent round and round."""
RECEIVE = 256 << 10
STALLED = 10.0
"""Seconds without a byte after which the run fails."""


@dataclass(frozen=True)
class Script:
    """What every connection sends and must get back: `DISTINCT` messages, as bytes, repeated for slicing past the end."""

    sent: bytes
    sent_frame: int
    expected: bytes
    expected_frame: int

    @classmethod
    def make(cls, size: int, in_flight: int) -> Script:
        """Messages of `size` bytes of text."""
        chance = random.Random(size)
        alphabet = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 {}:,"
        payloads = ["".join(chance.choices(alphabet, k=size)).encode() for _ in range(DISTINCT)]
        sent = [client_frame(TEXT, payload, chance.randbytes(4)) for payload in payloads]
        expected = [server_frame(TEXT, payload) for payload in payloads]
        sent_more = in_flight // DISTINCT + 2
        expected_more = RECEIVE // (len(expected[0]) * DISTINCT) + 2
        return cls(b"".join(sent) * sent_more, len(sent[0]), b"".join(expected) * expected_more, len(expected[0]))


@dataclass
class Client:
    """One connection."""

    connection: socket.socket
    script: Script
    sent: int = 0
    echoed: int = 0
    received: int = 0
    """Bytes."""
    unsent: bytes = b""
    sent_at: float = 0.0
    latencies: list[float] = field(default_factory=list)

    def send(self, count: int) -> bool:
        """Send the next `count` messages; returns whether all is written."""
        frame = self.script.sent_frame
        start = self.sent % DISTINCT * frame
        self.sent += count
        return self.write(self.unsent + self.script.sent[start : start + count * frame])

    def write(self, data: bytes) -> bool:
        """Write what can be written now and keep the rest."""
        try:
            written = self.connection.send(data)
        except BlockingIOError:
            written = 0
        self.unsent = data[written:]
        return not self.unsent

    def receive(self) -> int:
        """Read once, check every byte, and return how many echoes are complete now."""
        data = self.connection.recv(RECEIVE)
        if not data:
            raise ConnectionError("the server closed a connection")
        script = self.script
        start = self.received % (DISTINCT * script.expected_frame)
        if script.expected[start : start + len(data)] != data:
            raise ValueError(f"a wrong echo after {self.received} bytes: got {data[:80]!r}")
        self.received += len(data)
        complete = self.received // script.expected_frame - self.echoed
        self.echoed += complete
        return complete


def run(
    host: str, port: int, path: str, size: int, connections: int, in_flight: int, seconds: float, warm_up: float
) -> dict[str, float | None]:
    """Connect, warm up, measure. Returns the count of echoes, the seconds, and with one in flight the latency's median."""
    script = Script.make(size, in_flight)
    clients: dict[int, Client] = {}
    poll = select.epoll()
    try:
        for _ in range(connections):
            connection, rest = connect(host, port, path)
            if rest:
                raise ValueError(f"the server spoke first: {rest[:80]!r}")
            connection.setblocking(False)
            clients[connection.fileno()] = Client(connection, script)
            poll.register(connection, select.EPOLLIN)
        for client in clients.values():
            client.send(in_flight)
        drive(poll, clients, warm_up, latencies=False)
        print("measuring", flush=True)
        before = sum(client.echoed for client in clients.values())
        elapsed = drive(poll, clients, seconds, latencies=in_flight == 1)
        messages = sum(client.echoed for client in clients.values()) - before
        for client in clients.values():
            client.connection.setblocking(True)
            client.connection.sendall(client.unsent + client_frame(CLOSE, b"\x03\xe8", b"\0\0\0\0"))
    finally:
        poll.close()
        for client in clients.values():
            client.connection.close()
    latencies = [latency for client in clients.values() for latency in client.latencies]
    return {"messages": messages, "seconds": elapsed, "p50": statistics.median(latencies) if latencies else None}


def drive(poll: select.epoll, clients: dict[int, Client], seconds: float, *, latencies: bool) -> float:
    """Answer every echo with the next message for `seconds`; returns the seconds that it really took."""
    start = now = heard = time.perf_counter()
    while now - start < seconds:
        for descriptor, events in poll.poll(0.5):
            client = clients[descriptor]
            written = True
            if events & select.EPOLLOUT:
                written = client.write(client.unsent)
            if events & ~select.EPOLLOUT:
                complete = client.receive()
                heard = now
                if complete:
                    if latencies:
                        arrived = time.perf_counter()
                        if client.sent_at:
                            client.latencies.append(arrived - client.sent_at)
                        client.sent_at = arrived
                    written = client.send(complete)
            if not written or events & select.EPOLLOUT:
                poll.modify(descriptor, select.EPOLLIN if written else select.EPOLLIN | select.EPOLLOUT)
        now = time.perf_counter()
        if now - heard > STALLED:
            raise TimeoutError(f"no echo for {STALLED:g} s")
    return now - start


def main() -> None:
    """Take the parameters as JSON on the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("parameters", type=json.loads)
    try:
        result = run(**parser.parse_args().parameters)
    except (OSError, ValueError) as problem:
        sys.exit(f"{type(problem).__name__}: {problem}")
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
