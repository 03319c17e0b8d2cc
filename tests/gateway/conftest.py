"""A supervisor and workers that do what a test says, around a real gateway process.

The test's own process holds the other ends of the control channel and of every data channel, and speaks the wire contract.
Nothing waits by sleeping: `expect` reads a channel until the record is there, or fails.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.pair import Pair
from wsrelay.kernel.wire import messages as m
from wsrelay.kernel.wire.channel import Channel, channel_pair
from wsrelay.kernel.wire.configuration import GatewayConfiguration, Limits, Route, Server, Timeouts, Tls, pack
from wsrelay.kernel.wire.pid import Pid
from wsrelay.kernel.wire.reason import WireReason, make_reason

EPOCH = "00000000000000aa"
DEADLINE = 10.0
WITHOUT_UVLOOP = (
    "import sys; sys.modules['uvloop'] = None; from wsrelay.gateway.shell.main import main; main(sys.argv[1:])"
)

ROUTES = (
    Route("app:ws.endpoint", "GET", "/ws/{room}", "app:connect", relay=True),
    Route("app:plain.endpoint", "GET", "/plain/{name}", "app:plain"),
    Route("app:post.endpoint", "POST", "/post", "app:post"),
    Route("app:listed.endpoint", "GET", "/listed", "app:connect", relay=True,
          allowed_origins=("https://app.example.com", "https://*.example.org")),
)  # fmt: skip


class Peer:
    """The other end of one channel."""

    def __init__(self, end: socket.socket, accepts: dict[int, type]) -> None:
        self.channel = Channel(end, accepts)
        self.inbox: list[Any] = []
        self.read_count = 0

    def send(self, *records: Any, descriptor: int | None = None) -> None:
        for record in records:
            self.channel.send(record, descriptor)
        deadline = time.monotonic() + DEADLINE
        while not self.channel.flush():
            if not select.select([], [self.channel], [], max(0.0, deadline - time.monotonic()))[1]:
                raise AssertionError("the gateway does not read")

    def send_raw(self, data: bytes) -> None:
        self.channel._socket.setblocking(True)
        self.channel._socket.sendall(data)
        self.channel._socket.setblocking(False)

    def pump(self, timeout: float) -> bool:
        """Read what is there; wait for it up to `timeout` seconds."""
        if self.channel.ended or not select.select([self.channel], [], [], max(0.0, timeout))[0]:
            return False
        records = self.channel.receive()
        assert self.channel.violation is None, self.channel.violation
        self.read_count += len(records)
        self.inbox += records
        return True

    def expect(self, kind: type, matches: Callable[[Any], bool] = lambda record: True) -> Any:
        """Return the next record of this kind, dropping none of the others."""
        deadline = time.monotonic() + DEADLINE
        while True:
            for position, record in enumerate(self.inbox):
                if type(record) is kind and matches(record):
                    return self.inbox.pop(position)
            if not self.pump(deadline - time.monotonic()) and (self.channel.ended or time.monotonic() >= deadline):
                raise AssertionError(f"no {kind.__name__}; there was {self.inbox!r:.500}")

    def next(self) -> Any:
        """Return the next record, whatever it is."""
        deadline = time.monotonic() + DEADLINE
        while not self.inbox:
            if not self.pump(deadline - time.monotonic()):
                raise AssertionError("nothing came")
        return self.inbox.pop(0)

    def wait_end(self) -> None:
        deadline = time.monotonic() + DEADLINE
        while not self.channel.ended:
            assert self.pump(deadline - time.monotonic()) or self.channel.ended, "the channel stays open"

    def close(self) -> None:
        self.channel.close()


class Worker(Peer):
    """A worker: an actor with a PID, or a function worker that gets one with each invocation."""

    def __init__(self, supervisor: Supervisor, number: int, pid: str) -> None:
        ours, theirs = channel_pair()
        super().__init__(ours, m.GATEWAY_TO_WORKER)
        self.supervisor = supervisor
        self.number = number
        self.pid = pid
        with theirs:
            supervisor.send(m.OpenWorker(number, pid), descriptor=theirs.fileno())

    def end(self, kind: str = "normal", detail: str = "", *, restarting: bool = False, close: bool = True) -> None:
        """Die: the data channel ends, and the supervisor tells."""
        if close:
            self.close()
        self.supervisor.send(m.WorkerEnded(self.number, self.pid, make_reason(kind, detail), restarting))


class Supervisor(Peer):
    """The supervisor of one gateway process."""

    def __init__(self, process: subprocess.Popen[bytes], end: socket.socket) -> None:
        super().__init__(end, m.GATEWAY_TO_SUPERVISOR)
        self.process = process
        self.serial = 0
        self.number = 0
        self.workers: list[Worker] = []
        self.ports: dict[str, int] = {}
        self.paths: dict[str, str] = {}

    def descriptors(self) -> int:
        """How many the gateway has. Those of /dev/null do not count: libuv opens one when it gets its first connection."""
        paths = []
        for number in os.listdir(f"/proc/{self.process.pid}/fd"):
            with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                paths.append(os.readlink(f"/proc/{self.process.pid}/fd/{number}"))
        return len(paths) - paths.count(os.devnull)

    def new_pid(self) -> str:
        self.serial += 1
        return Pid.make("node", "app:processes", EPOCH, "s", self.serial)

    def actor(self) -> Worker:
        return self._worker(self.new_pid())

    def function_worker(self) -> Worker:
        return self._worker("")

    def _worker(self, pid: str) -> Worker:
        self.number += 1
        worker = Worker(self, self.number, pid)
        self.workers.append(worker)
        return worker

    def grant(self, worker: Worker, *, handshake: bool | None = None) -> m.Request:
        """Give the worker to the next request for a function; return what it is asked. `handshake` is what the request must
        say of itself."""
        wanted = self.expect(m.RequestInvocation)
        assert handshake is None or wanted.handshake is handshake
        worker.pid = self.new_pid()
        self.send(m.Granted(wanted.request, worker.pid, worker.number))
        request = worker.expect(m.Request)
        assert request.pid == worker.pid
        return request

    def answer(self, worker: Worker, status: int = 200, headers: Any = (), body: bytes = b"") -> None:
        """The worker answers and is free again."""
        worker.send(m.Response(worker.pid, status, tuple(headers), body))
        self.send(m.InvocationFinished(worker.number, worker.pid, make_reason("normal")))

    def admit(self, target: Worker) -> m.Admit:
        asked = self.expect(m.Admit)
        self.send(m.Admitted(asked.request, target.pid, target.number))
        return asked

    def retarget(self, target: Worker) -> m.Retarget:
        asked = self.expect(m.Retarget)
        self.send(m.Admitted(asked.request, target.pid, target.number))
        return asked

    def ended(self) -> tuple[str, WireReason, tuple[tuple[int, int], ...]]:
        record = self.expect(m.ConnectionEnded)
        return record.connection, record.reason, record.marks


StartGateway = Callable[..., Supervisor]


def _listen(server: Server, paths: dict[str, str]) -> socket.socket:
    if server.address.startswith("unix:"):
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(paths[server.id])
    else:
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
    listener.listen(128)
    return listener


@pytest.fixture
def start_gateway(tmp_path: Any) -> Iterator[StartGateway]:
    """Start a gateway with these servers; the first record that it answers is not yet read."""
    with contextlib.ExitStack() as stack:

        def start(*servers: Server, uvloop: bool = True) -> Supervisor:
            ours, theirs = channel_pair()
            program = ["-m", "wsrelay.gateway.shell.main"] if uvloop else ["-c", WITHOUT_UVLOOP]
            process = subprocess.Popen(
                [sys.executable, *program, str(theirs.fileno()), str(os.getpid())],
                pass_fds=[theirs.fileno()],
            )
            theirs.close()
            supervisor = Supervisor(process, ours)
            stack.callback(_stop, supervisor)
            for server in servers:
                supervisor.paths[server.id] = str(tmp_path / f"{server.id.replace(':', '_')}.sock")
                with _listen(server, supervisor.paths) as listener:
                    supervisor.send(m.Listener(server.id), descriptor=listener.fileno())
                    if listener.family == socket.AF_INET:
                        supervisor.ports[server.id] = listener.getsockname()[1]
            supervisor.send(m.Configure(1, "node", EPOCH, pack(GatewayConfiguration(servers))))
            return supervisor

        yield start


def _stop(supervisor: Supervisor) -> None:
    for worker in supervisor.workers:
        worker.close()
    supervisor.close()
    try:
        # EOF on the control channel ends the gateway at once.
        assert supervisor.process.wait(DEADLINE) == 1
    finally:
        supervisor.process.kill()
        supervisor.process.wait()


def make_server(**fields: Any) -> Server:
    fields.setdefault("routes", ROUTES)
    return Server(fields.pop("id", "app:gateway"), fields.pop("address", "127.0.0.1:0"), **fields)


@pytest.fixture
def serve(start_gateway: StartGateway) -> Callable[..., Supervisor]:
    """Start a gateway with one server, made of these fields, and wait until it is ready."""

    def start(*, uvloop: bool = True, **fields: Any) -> Supervisor:
        supervisor = start_gateway(make_server(**fields), uvloop=uvloop)
        supervisor.expect(m.GatewayReady)
        return supervisor

    return start


@pytest.fixture
def new_server() -> Callable[..., Server]:
    """Make a server's configuration."""
    return make_server


@pytest.fixture
def supervisor(serve: Callable[..., Supervisor]) -> Supervisor:
    """A gateway that serves `ROUTES` with small limits."""
    limits = Limits(message=100_000, body=1000, header=4096, outbound=200_000, inbound=300_000, queue=2)
    # No test may pass only because a close handshake timed out.
    return serve(limits=limits, timeouts=Timeouts(close=3 * DEADLINE))


@pytest.fixture
def open_pair(supervisor: Any) -> Iterator[Callable[..., Pair]]:
    with contextlib.ExitStack() as stack:
        yield lambda *, using=supervisor, **fields: Pair(using, stack, **fields)


@pytest.fixture
def pair(open_pair: Callable[..., Pair]) -> Pair:
    return open_pair()


@pytest.fixture(scope="session")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    """A certificate for localhost."""
    directory = tmp_path_factory.mktemp("tls")
    certificate, key = directory / "cert.pem", directory / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out",
         str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    return Tls(str(certificate), str(key))
