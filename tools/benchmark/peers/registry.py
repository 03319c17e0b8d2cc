"""All that can be measured, by name: how it starts, why it cannot, and whether a crash of a handler stays its own."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from . import foreign, installation
from .process import PORT_ALONE, Server, running, running_wsrelay

APPLICATION = Path(__file__).parents[1] / "application"
PATHS = {"echo": "/ws/shared", "broadcast": "/ws/broadcast", "lab": "/ws/lab", "victim": "/ws/victim"}
OWN = {"echo": "/ws/own"}
LOOKED_UP = {"echo": "/ws/looked-up"}
COALESCED = "{name: processes, kind: process.host, coalesce_sends: true}"


@dataclass(frozen=True)
class Peer:
    """One server that can be started."""

    title: str
    isolated: bool
    """Whether the handler runs in a process of its own."""
    start: Callable[[str], AbstractContextManager[Server]]
    """Takes the name to give it."""
    missing: Callable[[], str | None] = lambda: None


@contextlib.contextmanager
def _wsrelay(
    name: str,
    paths: Mapping[str, str] | None = None,
    deflate: bool = False,
    coalesced: bool = False,
    plain: bool = False,
) -> Iterator[Server]:
    """`paths` are those that are others than in `PATHS`."""
    with application(deflate, coalesced) as folder:
        python = installation.plain_python() if plain else sys.executable
        with running_wsrelay(folder, {**PATHS, **(paths or {})}, name, python) as server:
            yield server


@contextlib.contextmanager
def application(deflate: bool, coalesced: bool) -> Iterator[Path]:
    """A copy of the benchmark's application with these options."""
    with tempfile.TemporaryDirectory(prefix="wsrelay-bench-") as folder:
        copy = Path(folder) / "application"
        shutil.copytree(APPLICATION, copy, ignore=shutil.ignore_patterns("__pycache__"))
        index = copy / "_index.yaml"
        text = index.read_text()
        if deflate:
            text = text.replace("compression: false", "compression: true")
        if coalesced:
            text = text.replace("{name: processes, kind: process.host}", COALESCED)
        index.write_text(text)
        yield copy


def coalescing_missing() -> str | None:
    """Why sends cannot be coalesced, or None."""
    with application(deflate=False, coalesced=True) as folder:
        command = [str(Path(sys.executable).with_name("wsrelay")), "check", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode and "coalesce_sends" in done.stdout + done.stderr:
        return "not supported by this version"
    return None


@contextlib.contextmanager
def _uvicorn(name: str, loop: str, library: str, deflate: bool = False) -> Iterator[Server]:
    more = ["deflate"] if deflate else []
    command = [sys.executable, "-m", "benchmark.peers.uvicorn_app", loop, library, *more]
    with running(command, PORT_ALONE) as (process, port):
        yield Server(name, [process], port)


@contextlib.contextmanager
def _websockets(name: str) -> Iterator[Server]:
    with running([sys.executable, "-m", "benchmark.peers.websockets_app"], PORT_ALONE) as (process, port):
        yield Server(name, [process], port, {"broadcast": "/broadcast"})


def _nginx(name: str) -> AbstractContextManager[Server]:
    return foreign.nginx(name, _uvicorn("uvicorn", "uvloop", "websockets"))


PEERS: dict[str, Peer] = {
    "wsrelay": Peer("wsrelay, one worker", True, _wsrelay),
    "wsrelay-own": Peer("wsrelay, a worker for each connection", True, partial(_wsrelay, paths=OWN)),
    "wsrelay-lookup": Peer("wsrelay, one worker, looked up first", True, partial(_wsrelay, paths=LOOKED_UP)),
    "wsrelay-coalesced": Peer(
        "wsrelay, one worker, sends coalesced", True, partial(_wsrelay, coalesced=True), coalescing_missing
    ),
    "wsrelay-deflate": Peer("wsrelay, one worker, compression", True, partial(_wsrelay, deflate=True)),
    "wsrelay-plain": Peer("wsrelay, one worker, without the extra speed", True, partial(_wsrelay, plain=True)),
    "uvicorn-websockets": Peer(
        "uvicorn, uvloop + websockets", False, partial(_uvicorn, loop="uvloop", library="websockets")
    ),
    "uvicorn-wsproto": Peer("uvicorn, h11 + wsproto", False, partial(_uvicorn, loop="asyncio", library="wsproto")),
    "uvicorn-wsproto-deflate": Peer(
        "uvicorn, h11 + wsproto, compression",
        False,
        partial(_uvicorn, loop="asyncio", library="wsproto", deflate=True),
    ),
    "websockets": Peer("websockets on uvloop", False, _websockets),
    "node": Peer("Node ws + forked worker", True, foreign.node, foreign.node_missing),
    "nginx": Peer("nginx + uvicorn, uvloop + websockets", True, _nginx, foreign.nginx_missing),
    "websocketd": Peer("websocketd, a Python process each", True, foreign.websocketd, foreign.websocketd_missing),
    "pushpin": Peer("Pushpin, WebSocket-over-HTTP", True, foreign.pushpin, foreign.pushpin_missing),
}
OURS = "wsrelay"
"""What the marks are about. Names that begin so are variants of it."""


def is_ours(name: str) -> bool:
    """Whether this is a variant of the runtime."""
    return name.partition("-")[0] == OURS
