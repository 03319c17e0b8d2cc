"""What is seen of a running runtime: its supervisor says what it has (SIGUSR1, SIGUSR2), the operating system says the rest.

Owns how the answers are read from the log. Changes nothing in the runtime.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
from typing import Any, Protocol

import psutil

from .views import ProcessView, Snapshot
from .waiting import wait_until

ANSWER_TIMEOUT = 15.0
_STATISTICS = re.compile(r"statistics (\{.*\})$", re.MULTILINE)
_PROCESS = re.compile(r"process (\{.*\})$", re.MULTILINE)
_LISTED = re.compile(r"listed \d+ of \d+ processes$", re.MULTILINE)
_ANSWER = re.compile(r"^.* (?:statistics \{.*\}|process \{.*\}|listed \d+ of \d+ processes)\n", re.MULTILINE)


class Observed(Protocol):
    """What is needed of a runtime."""

    process: subprocess.Popen[bytes]

    @property
    def supervisor(self) -> int:
        """The os_pid of the supervisor."""

    def processes(self) -> dict[int, str]:
        """Every OS process of the runtime."""

    def log_size(self) -> int:
        """Bytes of the log so far."""

    def log_since(self, size: int) -> str:
        """The log from there."""

    def log_end(self) -> str:
        """The end of the log, for a message."""


def look(runtime: Observed) -> Snapshot:
    """Every OS process of the runtime, and the sizes of its tables. Raises AssertionError if the supervisor does not answer."""
    sizes = read_statistics(runtime)
    told = {facts["os_pid"]: facts for facts in _read_listing(runtime)}
    supervisor, guardian = runtime.supervisor, runtime.process.pid
    found = []
    for os_pid in runtime.processes():
        facts = told.get(os_pid, {"kind": "other"})
        kind = {supervisor: "supervisor", guardian: "guardian"}.get(os_pid, facts["kind"])
        with contextlib.suppress(psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
            found.append(_view(kind, os_pid, facts))
    return Snapshot(sizes, tuple(found))


def read_statistics(runtime: Observed) -> dict[str, int]:
    """Ask the supervisor for the sizes of its tables. Raises AssertionError if it does not answer."""
    answer = _ask(runtime, signal.SIGUSR1, _STATISTICS)
    sizes: dict[str, int] = json.loads(_STATISTICS.findall(answer)[-1])
    return sizes


def without_answers(log: str) -> str:
    """The log without what was asked for here."""
    return _ANSWER.sub("", log)


def _read_listing(runtime: Observed) -> list[dict[str, Any]]:
    answer = _ask(runtime, signal.SIGUSR2, _LISTED)
    return [json.loads(facts) for facts in _PROCESS.findall(answer)]


def _ask(runtime: Observed, number: int, end: re.Pattern[str]) -> str:
    """Send a signal, which the guardian hands on; return the log from there to the line that ends the answer."""
    size = runtime.log_size()
    assert runtime.process.poll() is None, f"the runtime has ended:\n{runtime.log_end()}"
    runtime.process.send_signal(number)
    wait_until(
        lambda: runtime.process.poll() is not None or end.search(runtime.log_since(size)),
        ANSWER_TIMEOUT,
        lambda: f"the supervisor to answer (is it stopped?):\n{runtime.log_end()}",
    )
    answer = runtime.log_since(size)
    assert end.search(answer), f"the runtime has ended:\n{runtime.log_end()}"
    return answer


def _view(kind: str, os_pid: int, facts: dict[str, Any]) -> ProcessView:
    """Raises psutil.NoSuchProcess, FileNotFoundError or ProcessLookupError if it is gone."""
    process = psutil.Process(os_pid)
    with process.oneshot():
        return ProcessView(
            kind,
            os_pid,
            facts.get("pid", ""),
            facts.get("entry", ""),
            process.memory_info().rss,
            len(os.listdir(f"/proc/{os_pid}/fd")),
            process.status(),
            **{name: facts.get(name, 0) for name in ("monitors", "links", "names", "groups")},
            host=facts.get("host", ""),
        )
