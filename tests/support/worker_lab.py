"""A real fork server and real workers, with the test in the place of the supervisor and of the gateway.

with Lab() as lab, lab.actor(source, "main") as worker:
    worker.tell(Deliver(PEER, "topic", packed))
    worker.expect(Send)
    assert worker.end() == Ended("normal", 0)
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, TypeVar

import msgpack
from wsrelay.kernel.wire import messages as wire
from wsrelay.kernel.wire.channel import Channel, channel_pair
from wsrelay.kernel.wire.configuration import HostConfiguration, pack
from wsrelay.kernel.wire.pid import Pid

from .waiting import TIMEOUT

EPOCH = "0123456789abcdef"
PEER = Pid.make("node", "app:processes", EPOCH, "s", 900)
_PR_SET_CHILD_SUBREAPER = 36

Record = TypeVar("Record")


def connection(serial: int, gateway: int = 1) -> Pid:
    """The PID of a WebSocket connection."""
    return Pid.make("node", "app:gateway", EPOCH, f"g{gateway}", serial)


def packed(value: Any) -> bytes:
    """What a payload looks like on its way."""
    result: bytes = msgpack.packb(value)
    return result


class Ended(NamedTuple):
    """How a worker ended: the reason's short form, None without a report, and the exit code or minus the signal."""

    reason: str | None
    code: int


class Worker:
    """One worker, seen by its supervisor and its gateway."""

    def __init__(self, number: int, os_pid: int, control: Channel, data: Channel) -> None:
        self.number = number
        self.os_pid = os_pid
        self.pidfd = os.pidfd_open(os_pid)
        self.control = control
        self.data = data
        self.said: list[Any] = []
        """What it has said on both channels and no `expect` has taken."""
        self.report: Any = None
        """The reason of its exit report."""
        self.status: int | None = None

    def tell(self, *records: tuple[Any, ...], descriptor: int | None = None) -> None:
        """Speak as the supervisor."""
        for record in records:
            self.control.send(record, descriptor)
        self._flush(self.control)

    def serve(self, *records: tuple[Any, ...]) -> None:
        """Speak as the gateway."""
        for record in records:
            self.data.send(record)
        self._flush(self.data)

    def _flush(self, channel: Channel) -> None:
        while not channel.flush():
            self._read(0.01)

    def _read(self, timeout: float) -> None:
        poll = select.poll()
        for channel in (self.control, self.data):
            if channel.fileno() >= 0 and not channel.ended:
                poll.register(channel.fileno(), select.POLLIN)
        poll.register(self.pidfd, select.POLLIN)
        poll.poll(timeout * 1000)
        for channel in (self.control, self.data):
            if channel.fileno() >= 0:
                self.said += channel.receive()
                assert channel.violation is None, channel.violation

    def expect(self, kind: type[Record], topic: str | None = None, timeout: float = TIMEOUT) -> Record:
        """Wait for the next record of this kind (and with this topic), and answer nothing meanwhile."""
        deadline = time.monotonic() + timeout
        while True:
            for index, record in enumerate(self.said):
                if isinstance(record, kind) and (topic is None or getattr(record, "topic", None) == topic):
                    del self.said[index]
                    return record
            assert time.monotonic() < deadline, f"no {kind.__name__} came, only {self.said}"
            assert self.wait_status(0) is None or self._more(), f"it ended without {kind.__name__}: {self.said}"
            self._read(0.05)

    def _more(self) -> bool:
        """Read the last words of a dead worker, whose last record may take many reads. Returns whether it said something."""
        before = len(self.said)
        for channel in (self.control, self.data):
            if channel.fileno() >= 0:
                self.said += channel.drain()
                assert channel.violation is None, channel.violation
        return len(self.said) > before

    def message(self, topic: str | None = None) -> Any:
        """Wait for the payload of its next message to a process (on this topic)."""
        return msgpack.unpackb(self.expect(wire.Send, topic).payload, strict_map_key=False)

    def answer(self, kind: type[Any], value: str | int | None = None) -> Any:
        """Wait for a request of this kind, answer it with a Reply, and return it."""
        request = self.expect(kind)
        self.tell(wire.Reply(request.request, value))
        return request

    def replace_gateway(self, gateway: int) -> Channel:
        """Open a new data channel; return the old one, which is still open."""
        old = self.data
        ours, theirs = channel_pair()
        self.data = Channel(ours, wire.WORKER_TO_GATEWAY)
        with theirs:
            self.tell(wire.OpenData(gateway), descriptor=theirs.fileno())
        return old

    def wait_status(self, timeout: float = TIMEOUT) -> int | None:
        """Wait for its end: the exit code, or minus the signal; None if it lives on."""
        if self.status is None:
            poll = select.poll()
            poll.register(self.pidfd, select.POLLIN)
            if poll.poll(timeout * 1000):
                _, status = os.waitpid(self.os_pid, 0)
                self.status = os.waitstatus_to_exitcode(status)
        return self.status

    def end(self, timeout: float = TIMEOUT) -> Ended:
        """Read until it has ended, and say how."""
        deadline = time.monotonic() + timeout
        while self.wait_status(0) is None:
            assert time.monotonic() < deadline, f"it did not end; it said {self.said}"
            self._read(0.05)
        while self._more():
            pass
        reports = [record for record in self.said if isinstance(record, wire.ExitReport)]
        if reports:
            self.report = reports[-1].reason
        assert self.status is not None
        return Ended(str(self.report) if reports else None, self.status)

    def close(self) -> None:
        """Leave nothing of it."""
        if self.wait_status(0) is None:
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
            self.wait_status()
        os.close(self.pidfd)
        self.control.close()
        self.data.close()

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Lab:
    """One fork server. The workers that it forks are children of the test."""

    def __init__(self, configuration: HostConfiguration | None = None, folder: Path | None = None) -> None:
        """`folder` is where `actor` and `function` put their sources."""
        self._folder = folder
        self._last = 0
        ours, theirs = channel_pair()
        self.channel = Channel(ours, wire.HOST_TO_SUPERVISOR)
        self.said: list[Any] = []
        _set_subreaper(True)
        with theirs:
            self.host = subprocess.Popen(
                [sys.executable, "-P", "-m", "wsrelay.workers.shell.host", str(theirs.fileno()), str(os.getpid())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                process_group=0,
            )
        self.channel.send(wire.ConfigureHost(pack(configuration or HostConfiguration("app:processes"))))
        self.refused: Mapping[str, str] = {}
        try:
            self.refused = dict(self.expect(wire.HostReady).refused)
        except BaseException:
            self.close()
            raise

    def expect(self, kind: type[Record]) -> Record:
        """Wait for the fork server's next record of this kind."""
        deadline = time.monotonic() + 3 * TIMEOUT
        while not any(isinstance(record, kind) for record in self.said):
            assert time.monotonic() < deadline, f"no {kind.__name__} came"
            assert not self.channel.ended, "the fork server has ended"
            self.channel.flush()
            select.select([self.channel.fileno()], [], [], 0.1)
            self.said += self.channel.receive()
        index = next(index for index, record in enumerate(self.said) if isinstance(record, kind))
        found: Record = self.said.pop(index)
        return found

    def fork(self, *, open_data: bool = True) -> Worker:
        """Have a worker forked. It has not been started. With `open_data` it has a data channel."""
        self._last += 1
        control, control_end = channel_pair()
        data, data_end = channel_pair()
        with control_end, data_end:
            self.channel.send(wire.Fork(self._last), control_end.fileno())
            forked = self.expect(wire.Forked)
            assert forked.worker == self._last
            worker = Worker(
                self._last,
                forked.os_pid,
                Channel(control, wire.WORKER_TO_SUPERVISOR),
                Channel(data, wire.WORKER_TO_GATEWAY),
            )
            if open_data:
                worker.control.send(wire.OpenData(1), data_end.fileno())
        return worker

    def source(self, text: str) -> str:
        """Write a source file; return it as entries name it."""
        assert self._folder is not None
        folder = self._folder / f"source{len(list(self._folder.iterdir()))}"
        folder.mkdir()
        (folder / "app.py").write_text(text)
        return f"file://{folder}/app.py"

    def pid(self, serial: int) -> Pid:
        """A PID of this runtime."""
        return Pid.make("node", "app:processes", EPOCH, "s", serial)

    def start(self, worker: Worker, source: str, method: str, *args: Any, mailbox: int = 1 << 20) -> Worker:
        """Tell a forked worker which actor it is."""
        pid = self.pid(worker.number)
        worker.tell(
            wire.Start(worker.number, pid, "app:processes", f"app:{method}", source, method, packed(args), mailbox)
        )
        return worker

    def actor(self, text: str, method: str = "main", *args: Any, mailbox: int = 1 << 20) -> Worker:
        """Start an actor from the text of its module."""
        return self.start(self.fork(), self.source(text), method, *args, mailbox=mailbox)

    def function_worker(self) -> Worker:
        """Start a function worker; it waits for Invoke."""
        worker = self.fork()
        worker.tell(wire.Start(worker.number, "", "app:processes", "", "", "", b"", 1 << 20))
        return worker

    def close(self) -> None:
        """End the fork server."""
        self.channel.close()
        try:
            self.host.wait(TIMEOUT)
        finally:
            self.host.kill()
            self.host.wait()
            _set_subreaper(False)

    def __enter__(self) -> Lab:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _set_subreaper(on: bool) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, int(on), 0, 0, 0)
