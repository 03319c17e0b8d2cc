"""One service that goes over a limit of its host, is ended, and comes back as restart policies have it by default (S36 to S38)."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from wsrelay.kernel.shell.control import connect, exchange, run_directory

from ..peers.process import Server
from .asking import ask
from .excesses import Excess
from .phases import PATIENCE, in_turns
from .profile import Profile


@dataclass(frozen=True)
class Comeback:
    """A service that uses too much, and comes back."""

    excess: Excess

    @property
    def TITLE(self) -> str:
        """What is measured."""
        return f"a service that {self.excess.habit}, restarted as by default; echo clients of a process in another host"

    def measure(self, server: Server, profile: Profile) -> dict[str, Any]:
        """Phases in turns, and how each life of the service has ended."""
        what = self.excess.what
        ends: list[dict[str, Any]] = []
        ask(server, "/ws/watch", {"seconds": 0.0}, PATIENCE)  # who watches is there before who is watched

        def serve() -> None:
            with started(server, f"app:service.{what}"):
                ends.append(ask(server, "/ws/watch", {"seconds": profile.seconds}, profile.seconds + PATIENCE))

        found = in_turns(f"{what}, a service", server, profile, serve)
        return found | {"ends": ends, "expected reason": self.excess.reason}


@contextlib.contextmanager
def started(server: Server, service: str) -> Iterator[None]:
    """Start a service of the runtime, and stop it after the block, as an operator does. Raises RuntimeError if it cannot be."""
    _tell(server, {"command": "start", "service": service})
    try:
        yield
    finally:
        _tell(server, {"command": "stop", "service": service})


def _tell(server: Server, request: dict[str, str]) -> None:
    """What the commands `wsrelay start` and `wsrelay stop` say, without the start of a Python, which would disturb too."""
    [guardian] = server.roots
    [path] = run_directory(None, guardian.environ()).glob(f"*-{guardian.pid}.socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connect(connection, path)
        answer = exchange(connection, request)
    if answer.get("good") is not True:
        raise RuntimeError(f"{request['command']} {request['service']}: {answer.get('lines')}")
