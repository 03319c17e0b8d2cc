"""The resident memory of the gateway and the supervisor, read all the time."""

from __future__ import annotations

import contextlib
import threading
from types import TracebackType

import psutil

from ..peers.process import Server

INTERVAL = 0.05
"""Seconds."""
PARTS = ("gateway", "supervisor")


def parts(server: Server) -> dict[str, psutil.Process]:
    """The supervisor, which is the guardian's child, and the gateway, which is the supervisor's."""
    [guardian] = server.roots
    [supervisor] = guardian.children()
    for process in supervisor.children():
        with contextlib.suppress(psutil.NoSuchProcess):
            if "wsrelay.gateway.shell.main" in process.cmdline():
                return {"gateway": process, "supervisor": supervisor}
    raise RuntimeError("the runtime has no gateway")


class MemoryWatch:
    """The largest resident memory of each part, in bytes, while the block runs."""

    def __init__(self, server: Server) -> None:
        self.largest = dict.fromkeys(PARTS, 0)
        self._parts = parts(server)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="memory", daemon=True)

    def __enter__(self) -> MemoryWatch:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while True:
            for name, process in self._parts.items():
                with contextlib.suppress(psutil.NoSuchProcess):
                    self.largest[name] = max(self.largest[name], process.memory_info().rss)
            if self._over.wait(INTERVAL):
                return
