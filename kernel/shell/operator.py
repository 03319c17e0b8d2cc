"""What an operator may ask a runtime that serves: both ends of `wsrelay reload`, `status`, `start`, `stop` and `restart`.

Owns the requests and their answers (and that of who asks which of several runtimes is meant): `{"command": …, "service": …, "restart": …}` and `{"good": …, "lines": […]}`, the lines for
people. How they travel is `control`'s.
"""

from __future__ import annotations

import os
import pwd
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from ..core.effects import Effect
from ..core.table import ProcessTable
from ..wire.errors import ProcessError
from ..wire.logs import escape
from .control import SILENCE, Answer, Request, candidates, connect, exchange, peer_of
from .reload import Outcome, Reloader
from .views import Views

COMMANDS = ("reload", "status", "start", "stop", "restart")

_WHICH = "configuration"
"""Asks for the files and folders that a runtime serves."""
NO_ANSWER = 3
"""The exit code when a runtime is there and does not answer."""


class Subject(Protocol):
    """The runtime."""

    table: ProcessTable
    reloader: Reloader
    views: Views

    @property
    def stopping(self) -> bool:
        """Whether the runtime stops."""

    def perform(self, effects: list[Effect]) -> None: ...

    def end_turn(self) -> None: ...

    def now(self) -> float: ...


async def answer(runtime: Subject, request: Request) -> Answer:
    """Do what is asked."""
    outcome = await _obey(runtime, request)
    return {"good": outcome.good, "lines": list(outcome.lines)}


async def _obey(runtime: Subject, request: Request) -> Outcome:
    command, service = request.get("command"), request.get("service")
    if command == "status":
        return Outcome(True, tuple(_status(runtime.views)))
    if command == _WHICH:
        return Outcome(True, tuple(map(os.path.realpath, runtime.reloader.paths)))
    if runtime.stopping:
        return Outcome(False, ("the runtime is stopping",))
    if command == "reload":
        return await runtime.reloader.reload(restart=request.get("restart") is True)
    if not isinstance(service, str):
        return Outcome(False, ("expected the id of a process.service",))
    try:
        if command == "restart":
            return await runtime.reloader.restart_service(service)
        if command in ("start", "stop"):
            tell = runtime.table.start_service if command == "start" else runtime.table.stop_service
            runtime.perform(tell(service, runtime.now()))
            runtime.end_turn()
            return Outcome(True, (f"{service}: {runtime.views.services()[service].value}",))
    except ProcessError as problem:
        return Outcome(False, (str(problem),))
    return Outcome(False, (f"expected one of {', '.join(COMMANDS)}",))


def _status(views: Views) -> list[str]:
    connections, processes = views.census()
    lines = [f"{connections} connections, {processes} processes"]
    lines += [f"{part}: {'ready' if well else 'down'}" for part, well in views.parts().items()]
    return lines + [f"service {id}: {state.value}" for id, state in views.services().items()]


def ask(directory: Path, paths: Sequence[str], request: dict[str, Any]) -> int:
    """Send a request to the runtime of this configuration, or to the only one there is, and print its answer. Returns the exit
    code: 0 if it was done, 1 if it was not, or nobody is there, `NO_ANSWER` if somebody is there and does not answer."""
    try:
        connection = _connect(directory, paths)
    except OSError as problem:
        print(f"error: {problem}", file=sys.stderr)  # noqa: T201
        return 1
    with connection:
        os_pid, uid = peer_of(connection)
        try:
            given = exchange(connection, request)
        except TimeoutError:
            print(_silent(os_pid), file=sys.stderr)  # noqa: T201
            return NO_ANSWER
        except (OSError, ValueError):
            given = {}
    if not given:
        welcome = os.geteuid() in (0, uid)
        print(f"error: {'the runtime has ended' if welcome else _refused(uid)}", file=sys.stderr)  # noqa: T201
        return 1
    good = given.get("good") is True
    for line in given.get("lines", ()):
        print(escape(line), file=sys.stdout if good else sys.stderr)
    return 0 if good else 1


def _silent(os_pid: int) -> str:
    return (
        f"error: the runtime (os process {os_pid}) has not answered for {SILENCE:g} s: it is stopped, or hangs; whether it does what it"
        " was asked for is not known"
    )


def _connect(directory: Path, paths: Sequence[str]) -> socket.socket:
    """Raises OSError that says what was looked for."""
    found: list[socket.socket] = []
    problem = ""
    try:
        places = candidates(directory, paths)
    except PermissionError:
        raise PermissionError(f"permission denied: {directory}{_whose(directory)}") from None
    for path in places:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(SILENCE)  # one that accepts nobody has a full queue at last
            connect(connection, path)
            if (uid := peer_of(connection)[1]) not in (0, os.geteuid()) and os.geteuid() != 0:
                raise PermissionError(_refused(uid))
            found.append(connection)
        except OSError as error:
            connection.close()
            if isinstance(error, PermissionError):
                problem = f"permission denied: {path}{_whose(path)}" if error.errno else str(error)
            elif not isinstance(error, (ConnectionRefusedError, FileNotFoundError)):
                problem = f"{path}: {error}"
    if len(found) == 1:
        return found[0]
    if found:
        raise OSError("\n  ".join(["several runtimes serve here, say which configuration:", *map(_which, found)]))
    if problem:
        raise OSError(problem)
    what = f"of {' '.join(paths)} " if paths else ""
    raise OSError(f"no runtime {what}serves in {directory}; expected one, or --run-directory")


def _refused(uid: int) -> str:
    return f"permission denied: the runtime is of {_name(uid)}, and answers only that user and root"


def _which(connection: socket.socket) -> str:
    """Which runtime this is, and close the connection."""
    with connection:
        os_pid = peer_of(connection)[0]
        try:
            lines = exchange(connection, {"command": _WHICH}).get("lines", ())
        except (OSError, ValueError):
            lines = ()
        what = escape(" ".join(lines)) or "it does not answer"
        return f"{what} (os process {os_pid})"


def _whose(path: Path) -> str:
    """Who may use a file or folder that this user may not, as far as that can be seen."""
    try:
        return f" is of {_name(path.stat().st_uid)}: ask as that user or as root"
    except OSError:
        return " is in a folder that this user may not enter: ask as the user that the runtime runs as, or as root"


def _name(uid: int) -> str:
    try:
        return f"the user {pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"the user {uid}"
