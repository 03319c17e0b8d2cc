"""A real runtime for a test: `wsrelay run` in a folder, what is done to it, and the search for what it leaves.

Owns the processes that it starts, their folder, and their log. They are marked with an environment variable, so that one that
moved to another session or process group is found all the same. What is seen of them is made in `observation`.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import uuid
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from .applications import check_ids
from .hygiene import tagged_processes
from .inside import VARIABLE
from .kinds import Fault
from .observation import look, read_statistics, without_answers
from .openness import open_to_all
from .points import Armed, Points
from .views import ProcessView, Snapshot
from .waiting import wait_until

if TYPE_CHECKING:  # an extra; those who open no client do without
    from websockets.asyncio.client import connect as AsyncConnect
    from websockets.sync.client import ClientConnection

MARK = "WSRELAY_TEST_ID"
START_TIMEOUT = 30.0
STOP_TIMEOUT = 30.0
REST_TIMEOUT = 15.0
"""Seconds that a runtime has to come to rest when its clients are gone."""
LOOK_AGAIN = 0.03
"""Seconds between two looks: each writes some lines of log."""
LOG_SHOWN = 8000
"""Characters of the log's end that a failure shows."""
_SERVING = re.compile(r"serving (?P<id>\S+) on (?P<address>(?:https?://|unix:)\S+)")


class Runtime:
    """One running `wsrelay run`. Use `running.running_runtime`, which stops it too."""

    def __init__(self, folder: Path, environment: Mapping[str, str] | None = None, *, shared: bool = False) -> None:
        """Start what is configured below `folder`; `environment` is added to this process's own. With `shared` workers of other
        users can have temporary files, and reach points."""
        self.folder = folder
        self.identity = uuid.uuid4().hex
        self._log = folder.parent / f"{folder.name}.log"
        self.temporary = temporary_of(folder)
        self.temporary.mkdir()
        self.points = Points(points_of(folder))
        if shared:
            open_to_all(self.temporary, self.points.folder)
        self.strict = True
        """Whether it is checked, before it is stopped, that all is as at the start."""
        self._start: Snapshot | None = None
        self._last: Snapshot | None = None
        self._rested: dict[int, ProcessView] = {}
        """How each function worker was when it first waited for a request, by os_pid."""
        self._environment = {
            **os.environ,
            VARIABLE: str(self.points.folder),
            "TMPDIR": str(self.temporary),
            "XDG_RUNTIME_DIR": str(self.temporary),
            **(environment or {}),
        }
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [_command(), "run", folder],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**self._environment, MARK: self.identity},
                start_new_session=True,
            )

    def log(self) -> str:
        """Everything that the runtime has written so far."""
        return self._log.read_text(errors="replace")

    def log_end(self) -> str:
        """The end of the log, for a message, without what the kit has asked for."""
        text = without_answers(self.log())
        return text if len(text) <= LOG_SHOWN else f"[…]{text[-LOG_SHOWN:]}"

    def log_size(self) -> int:
        """Bytes of the log so far: with `log_since`, what is written from here on."""
        return self._log.stat().st_size

    def log_since(self, size: int) -> str:
        """What has been written since the log had this size."""
        with self._log.open("rb") as log:
            log.seek(size)
            return log.read().decode(errors="replace")

    def addresses(self) -> dict[str, str]:
        """Where the runtime says that it serves, by the id of the service."""
        return {match["id"]: match["address"] for match in _SERVING.finditer(self.log())}

    def wait_ready(self, services: int = 1) -> None:
        """Wait until `services` services are served. Raises AssertionError, with the log, if the runtime ends instead."""

        def ready() -> bool:
            if self.process.poll() is not None:
                raise AssertionError(f"the runtime ended with {self.process.returncode}:\n{self.log()}")
            return len(self.addresses()) >= services

        wait_until(ready, START_TIMEOUT, lambda: f"the runtime to serve; its log:\n{self.log()}")

    def address(self, service: str | None = None) -> str:
        """The base address of a service, by default of the first: `http://127.0.0.1:40123`."""
        addresses = self.addresses()
        return addresses[service] if service else next(iter(addresses.values()))

    def url(self, path: str = "/", service: str | None = None) -> str:
        """An HTTP URL. Raises ValueError for a service on a socket file."""
        return self._on_tcp(service) + path

    def ws_url(self, path: str = "/", service: str | None = None) -> str:
        """A WebSocket URL. Raises ValueError for a service on a socket file."""
        return "ws" + self._on_tcp(service).removeprefix("http") + path

    def port(self, service: str | None = None) -> int:
        """The TCP port of a service. Raises ValueError for a service on a socket file."""
        return int(self._on_tcp(service).rpartition(":")[2])

    def _on_tcp(self, service: str | None) -> str:
        address = self.address(service)
        if address.startswith("unix:"):
            raise ValueError(f"expected a service on a port; this one is on {address}: `connect` finds it, URLs do not")
        return address

    @property
    def supervisor(self) -> int:
        """The os_pid of the supervisor; that of `process` is the guardian's, its parent."""
        guardian = psutil.Process(self.process.pid)
        children = [child for child in guardian.children() if child.cmdline() == guardian.cmdline()]
        assert len(children) == 1, f"expected one supervisor, found {children}"
        os_pid: int = children[0].pid
        return os_pid

    @property
    def gateway(self) -> int:
        """The os_pid of the gateway."""
        [os_pid] = [pid for pid, command in self.processes().items() if "wsrelay.gateway.shell.main" in command]
        return os_pid

    def processes(self) -> dict[int, str]:
        """Every process of this runtime, wherever it moved: OS pid to command line."""
        return tagged_processes(MARK, self.identity)

    def stop(self, signal_number: int = signal.SIGTERM, timeout: float = STOP_TIMEOUT) -> int:
        """Ask the runtime to stop, wait for it and return its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal_number)
        wait_until(
            lambda: self.process.poll() is not None, timeout, lambda: f"the runtime to stop; its log:\n{self.log()}"
        )
        status: int = self.process.returncode
        return status

    def command(self, *arguments: str, timeout: float = STOP_TIMEOUT) -> str:
        """Ask this runtime what an operator may: `command("restart", "app:room")` is `wsrelay restart app:room`; also `status`,
        `start`, `stop` and `reload`. Returns what it says. Raises AssertionError, with that, if it refuses."""
        done = subprocess.run(
            [_command(), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=self._environment,
            timeout=timeout,
            check=False,
        )
        assert done.returncode == 0, f"wsrelay {' '.join(arguments)} ended with {done.returncode}:\n{done.stdout}"
        return done.stdout

    def kill(self) -> None:
        """Leave nothing of it, whatever state it is in. For tests that failed."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait()
        for os_pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(os_pid, signal.SIGKILL)
        wait_until(lambda: not self.processes(), message="killed processes to go")

    def remove_sockets(self) -> None:
        """Remove the socket files in the runtime's folders: who is killed leaves them."""
        for path in self._sockets(self.folder, self.temporary):
            path.unlink(missing_ok=True)

    @staticmethod
    def _sockets(*folders: Path) -> list[Path]:
        return [path for folder in folders for path in folder.rglob("*") if path.is_socket()]

    def check_nothing_left(self) -> None:
        """After the end: no process of the tree is left, and no temporary file or socket file."""
        wait_until(
            lambda: not self.processes(),
            5.0,
            lambda: f"every process to end; left are {self.processes()}\n{self.log_end()}",
        )
        sockets = list(map(str, self._sockets(self.folder)))
        assert not sockets, f"socket files are left beside the application: {sockets}"
        files = [str(path) for path in self.temporary.rglob("*")]
        assert not files, f"temporary files are left: {files}"

    # --- clients ------------------------------------------------------------------------------------------------------

    def connect(self, path: str = "/", **options: Any) -> ClientConnection:
        """A WebSocket client (of `websockets`, blocking), to be used as a context manager. It answers pings when it reads, and
        sends none. `options` are those of `websockets.sync.client.connect`."""
        from websockets.sync.client import connect, unix_connect

        options = {"ping_interval": None, "open_timeout": START_TIMEOUT, **options}
        address = self.address()
        client: ClientConnection
        if address.startswith("unix:"):
            client = unix_connect(address.removeprefix("unix:"), f"ws://localhost{path}", **options)
        else:
            client = connect(self.ws_url(path), **options)
        return client

    def connect_async(self, path: str = "/", **options: Any) -> AsyncConnect:
        """The same for coroutines: `async with runtime.connect_async("/ws") as client`."""
        from websockets.asyncio.client import connect, unix_connect

        options = {"ping_interval": None, "open_timeout": START_TIMEOUT, **options}
        address = self.address()
        if address.startswith("unix:"):
            return unix_connect(address.removeprefix("unix:"), f"ws://localhost{path}", **options)
        return connect(self.ws_url(path), **options)

    # --- faults -------------------------------------------------------------------------------------------------------

    def arm(self, point: str, fault: Fault, *, skip: int = 0) -> Armed:
        """Have a handler perform the fault when it next reaches this `point`, or after `skip` times. Returns what tells whether it
        has (`Armed.performed`). Raises ValueError."""
        return self.points.arm(point, fault, skip=skip)

    @contextlib.contextmanager
    def armed(self, point: str, fault: Fault | None, *, skip: int = 0, required: bool = False) -> Iterator[Armed]:
        """`arm` for the length of a block, after which nothing is armed, reached or not. None: no fault. With `required` the
        block ends when the fault is performed: raises AssertionError if that does not happen. Without, a point that was never
        reached in the runtime's whole life is told at its end, as the warning PointNeverReached."""
        armed = self.points.nothing(point) if fault is None else self.arm(point, fault, skip=skip)
        try:
            yield armed
            if required:
                armed.wait_performed()
        finally:
            self.points.disarm()

    # --- views --------------------------------------------------------------------------------------------------------

    def ps(self) -> tuple[ProcessView, ...]:
        """Every OS process of the runtime, as it is now. Raises AssertionError if the supervisor does not answer."""
        return self._look().processes

    def statistics(self) -> dict[str, int]:
        """The sizes of the supervisor's tables (`views.Snapshot.sizes`). Raises AssertionError if it does not answer."""
        return read_statistics(self)

    def worker_of(self, pid: str) -> ProcessView:
        """The OS process that runs `pid`. Raises LookupError if there is none."""
        for process in self.ps():
            if process.pid == pid:
                return process
        raise LookupError(f"no worker runs {pid}")

    def quiesce(self, timeout: float = REST_TIMEOUT, *, idle: bool = True) -> Snapshot:
        """Wait until nothing changes any more: no connection is open, nothing is being started or swept, every process waits, and
        two looks see the same. Actors that wait for mail are at rest; those that always have something to do need `idle=False`,
        or this raises. Returns the last look. Raises AssertionError after `timeout` seconds."""
        seen = [self._look()]

        def at_rest() -> bool:
            seen.append(self._look())
            before, now = seen[-2:]
            return now.resting and (now.idle or not idle) and before.outline() == now.outline()

        def complaint() -> str:
            return f"the runtime to come to rest; it has {_show(seen[-1])}\n{self.log_end()}"

        wait_until(at_rest, timeout, complaint, step=LOOK_AGAIN)
        return seen[-1]

    def _look(self) -> Snapshot:
        """Look, and remember the function workers that are new and rest: two looks see them the same."""
        now = look(self)
        before = {each.os_pid: each for each in self._last.processes} if self._last else {}
        for each in now.processes:
            then = before.get(each.os_pid)
            if each.waits_for_a_request and then and then.waits_for_a_request and each.descriptors == then.descriptors:
                self._rested.setdefault(each.os_pid, each)
        self._last = now
        return now

    def remember_start(self) -> None:
        """From here on, `check_as_found` compares with what is now."""
        self._rested.clear()

        def known() -> bool:
            """Whether each function worker has been seen before its first request: on a busy machine it may still begin."""
            self._start = self.quiesce(START_TIMEOUT, idle=False)
            return all(each.os_pid in self._rested for each in self._start.processes if each.is_function_worker)

        wait_until(known, START_TIMEOUT, "every function worker to wait for a request", step=LOOK_AGAIN)

    def check_as_found(self, keeps: Collection[str] = (), timeout: float | None = None) -> None:
        """Check that, when the clients are gone, nothing is left that was not there at the start: no process, monitor, link,
        name, membership, timer or descriptor of the runtime and of its function workers. Processes of the entries `keeps` may stay,
        with what they hold, and function workers of the hosts among them may keep descriptors.
        Raises AssertionError that says what is left after `timeout` seconds, by default REST_TIMEOUT, and ValueError for an entry
        that there is not."""
        check_ids(self.folder, keeps)
        assert self._start is not None, "remember_start was not called"
        start, left = self._start, [""]

        def clean() -> bool:
            now = self._look()
            left[:] = now.left_since(start, keeps, self._rested)
            return now.resting and not left

        def complaint() -> str:
            return "the runtime to be as it was at the start; left are:\n  " + "\n  ".join(left) + f"\n{self.log_end()}"

        wait_until(clean, REST_TIMEOUT if timeout is None else timeout, complaint, step=LOOK_AGAIN)


def temporary_of(folder: Path) -> Path:
    """Where the temporary files and sockets of the runtime in `folder` are."""
    return folder.parent / f"{folder.name}.tmp"


def points_of(folder: Path) -> Path:
    """Where the armed points of the runtime in `folder` are."""
    return folder.parent / f"{folder.name}.points"


def _command() -> Path:
    """The command of the installation that runs this."""
    beside = Path(sys.executable).with_name("wsrelay")
    found = beside if beside.exists() else shutil.which("wsrelay")
    assert found is not None, "the command wsrelay is neither beside this Python nor on PATH"
    return Path(found)


def _show(snapshot: Snapshot) -> str:
    return f"{dict(snapshot.sizes)} and\n  " + "\n  ".join(map(str, snapshot.processes))
