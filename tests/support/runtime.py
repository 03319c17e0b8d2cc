"""A real runtime for a test: `wsrelay run` on a free port, stopped and searched for leftovers at the end.

    with running_runtime(tmp_path, entries, {"app.py": "def connect(): …"}) as runtime:
        connect(runtime.ws_url("/ws/echo"))

The runtime's processes are marked with an environment variable, so that one that moved to another session or process
group is found all the same.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
import yaml

from .hygiene import tagged_processes
from .waiting import wait_until

MARK = "WSRELAY_TEST_ID"
START_TIMEOUT = 30.0
STOP_TIMEOUT = 30.0
_SERVING = re.compile(r"serving (?P<id>\S+) on (?P<address>(?:https?://|unix:)\S+)")

Entries = Sequence[Mapping[str, Any]] | str

GATEWAY: Mapping[str, Any] = {"name": "gateway", "kind": "http.service", "addr": "127.0.0.1:0"}
PROCESSES: Mapping[str, Any] = {"name": "processes", "kind": "process.host"}
ROUTER: Mapping[str, Any] = {
    "name": "router",
    "kind": "http.router",
    "meta": {"server": "gateway"},
    "prefix": "/",
    "post_middleware": ["websocket_relay"],
}


def endpoint(path: str, method: str, *, source: str = "file://app.py", verb: str = "GET") -> list[dict[str, Any]]:
    """The entries of one handler: a `function.python` for `method` and an `http.endpoint` for it at `path`."""
    return [
        {"name": method, "kind": "function.python", "source": source, "method": method},
        {
            "name": f"{method}.endpoint",
            "kind": "http.endpoint",
            "meta": {"router": "router"},
            "method": verb,
            "path": path,
            "func": method,
        },
    ]


def actor(method: str, *, source: str = "file://app.py") -> dict[str, Any]:
    """The entry of one `process.python`, named as its function."""
    return {"name": method, "kind": "process.python", "source": source, "method": method}


def application(*entries: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """A gateway on a free port, a host, a router with the relay at `/`, and `entries`."""
    made: list[Mapping[str, Any]] = [GATEWAY, PROCESSES, ROUTER]
    for entry in entries:
        made += [entry] if isinstance(entry, Mapping) else entry
    return made


class Runtime:
    """One running `wsrelay run`. Use `running_runtime`, which stops it too."""

    def __init__(self, folder: Path, environment: Mapping[str, str] | None = None) -> None:
        """Start what is configured below `folder`; `environment` is added to this process's own."""
        self.folder = folder
        self.identity = uuid.uuid4().hex
        self._log = folder.parent / f"{folder.name}.log"
        self.temporary = folder.parent / f"{folder.name}.tmp"
        self.temporary.mkdir()
        own = {MARK: self.identity, "TMPDIR": str(self.temporary), "XDG_RUNTIME_DIR": str(self.temporary)}
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [Path(sys.executable).with_name("wsrelay"), "run", folder],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **own, **(environment or {})},
                start_new_session=True,
            )

    def log(self) -> str:
        """Everything that the runtime has written so far."""
        return self._log.read_text(errors="replace")

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
        """An HTTP URL."""
        return self.address(service) + path

    def ws_url(self, path: str = "/", service: str | None = None) -> str:
        """A WebSocket URL."""
        return "ws" + self.address(service).removeprefix("http") + path

    def port(self, service: str | None = None) -> int:
        """The TCP port of a service."""
        return int(self.address(service).rpartition(":")[2])

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

    def kill(self) -> None:
        """Leave nothing of it, whatever state it is in. For tests that failed."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait()
        for os_pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(os_pid, signal.SIGKILL)
        wait_until(lambda: not self.processes(), message="killed processes to go")

    def check_nothing_left(self) -> None:
        """After the end: no process of the tree is left, and no temporary file."""
        wait_until(
            lambda: not self.processes(),
            5.0,
            lambda: f"every process to end; left are {self.processes()}\n{self.log()}",
        )
        files = [str(path) for path in self.temporary.rglob("*")]
        assert not files, f"temporary files are left: {files}"


def write_application(folder: Path, entries: Entries, sources: Mapping[str, str], namespace: str = "app") -> None:
    """Write `_index.yaml` and the Python files into `folder`. `entries` is a list of entries, or a whole file's text."""
    folder.mkdir(parents=True, exist_ok=True)
    if not isinstance(entries, str):
        document = {"version": "1.0", "namespace": namespace, "entries": [dict(entry) for entry in entries]}
        entries = yaml.safe_dump(document, sort_keys=False)
    (folder / "_index.yaml").write_text(entries)
    for name, text in sources.items():
        (folder / name).write_text(textwrap.dedent(text))


@contextlib.contextmanager
def running_runtime(
    tmp_path: Path,
    entries: Entries,
    sources: Mapping[str, str],
    *,
    services: int = 1,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Runtime]:
    """Run an application. At the end: SIGTERM, exit status 0, and nothing left. A test may have stopped it before."""
    folder = tmp_path / f"application-{len(list(tmp_path.iterdir()))}"
    write_application(folder, entries, sources)
    with _running(folder, services, environment) as runtime:
        yield runtime


@contextlib.contextmanager
def running_example(tmp_path: Path, example: Path) -> Iterator[Runtime]:
    """Run a copy of one of the examples, on a free port."""
    folder = tmp_path / example.name
    shutil.copytree(example, folder)
    index = folder / "_index.yaml"
    text = index.read_text()
    assert "127.0.0.1:8080" in text
    index.write_text(text.replace("127.0.0.1:8080", "127.0.0.1:0"))
    with _running(folder, 1, None) as runtime:
        yield runtime


@contextlib.contextmanager
def _running(folder: Path, services: int, environment: Mapping[str, str] | None) -> Iterator[Runtime]:
    runtime = Runtime(folder, environment)
    try:
        runtime.wait_ready(services)
        yield runtime
        stopped_by_test = runtime.process.returncode is not None
        status = runtime.stop()
        assert stopped_by_test or status == 0, f"the runtime ended with {status}:\n{runtime.log()}"
        runtime.check_nothing_left()
    finally:
        runtime.kill()
