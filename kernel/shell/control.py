"""The control socket: how an operator's command reaches a runtime that serves.

Owns the run directory (0700) and the socket in it, and who may speak there: the runtime's own user and root, by SO_PEERCRED. One
request and one answer for each connection, each a line of JSON; what they mean is the business of `handle`. An answer may take its
time (a reload does), so an empty line comes each `SIGN` seconds until it is there: who hears nothing knows that nobody works on it.

The directory is the first of `--run-directory`, `$RUNTIME_DIRECTORY/control` (under systemd), `$XDG_RUNTIME_DIR/wsrelay` and
`/tmp/wsrelay-UID`. The socket's name says which configuration it is: digests of the paths that `wsrelay run` was given, where they
led then and as they were written.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import os
import socket
import stat
import struct
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from .errors import StartError
from .folder_lock import lock

logger = logging.getLogger("wsrelay")

MAX_REQUEST = 64 << 10
"""Bytes of a request."""
_MOST = 16
"""Connections at a time."""
_BUSY = f"{_MOST} commands are under way, and no more are taken at a time: ask again"
_PATIENCE = 10.0
"""Seconds for a request to arrive, and for an answer to be taken."""
SIGN = 1.0
"""Seconds between two signs of life on a connection that waits for its answer."""
SILENCE = 5.0
"""Seconds without any sign of life after which who asked gives up."""
_SUFFIX = ".socket"
_CREDENTIALS = struct.Struct("3i")

Request = dict[str, Any]
Answer = dict[str, Any]


def run_directory(given: str | None, environment: Mapping[str, str]) -> Path:
    """Where the sockets of this user's runtimes are."""
    if given is not None:
        return Path(given)
    if of_unit := environment.get("RUNTIME_DIRECTORY", "").partition(":")[0]:
        return Path(of_unit, "control")
    if of_session := environment.get("XDG_RUNTIME_DIR"):
        return Path(of_session, "wsrelay")
    return Path(f"/tmp/wsrelay-{os.geteuid()}")


def _digests(paths: Sequence[str]) -> list[str]:
    """What stands for a configuration in the name of a socket: where it is, and how that was written. A release is often a symbolic link
    that leads elsewhere when the runtime is to be told so; and a folder may be known by two names."""
    return [
        hashlib.sha256("\0".join(sorted(map(where, paths))).encode(errors="surrogateescape")).hexdigest()[:16]
        for where in (os.path.realpath, os.path.abspath)
    ]


def place(directory: Path, paths: Sequence[str], guardian: int) -> Path:
    """The socket of one runtime; `guardian` is the os_pid that `wsrelay run` has."""
    return directory / f"{'-'.join(_digests(paths))}-{guardian}{_SUFFIX}"


def candidates(directory: Path, paths: Sequence[str]) -> list[Path]:
    """The sockets of runtimes of this configuration, or of any if there are no `paths`. They may be dead. Raises PermissionError
    if this user may not look."""
    wanted = _digests(paths)
    try:
        names = os.listdir(directory)  # and not glob(), which finds nothing then
    except (FileNotFoundError, NotADirectoryError):
        return []
    found = [name for name in sorted(names) if name.endswith(_SUFFIX)]
    if paths:
        found = [name for name in found if any(map(str.__eq__, name.split("-"), wanted))]
    return [directory / name for name in found]


def remove(path: Path) -> None:
    """Remove a socket, and its directory if it was the last. Nothing happens if it is gone."""
    with contextlib.suppress(OSError):
        path.unlink()
    with contextlib.suppress(OSError):
        path.parent.rmdir()


def peer_of(connection: socket.socket) -> tuple[int, int]:
    """The (os_pid, uid) of who made the other end."""
    os_pid, uid, _ = _CREDENTIALS.unpack(
        connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    )
    return os_pid, uid


@contextlib.contextmanager
def short_address(path: Path) -> Iterator[str]:
    """Yield another path of the same file, which is not over the 107 bytes that a socket's address may have. Raises OSError."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def connect(end: socket.socket, path: Path) -> None:
    """Connect to a control socket. Raises OSError."""
    with short_address(path) as address:
        end.connect(address)


def listen_at(path: Path) -> socket.socket:
    """Make the directory and the socket. Raises StartError."""
    try:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        status = path.parent.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o077:
            raise StartError(f"{path.parent}: expected a directory of our own with the mode 0700")
        _remove_dead(path.parent)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listener.setblocking(False)
            with short_address(path) as address:
                listener.bind(address)
            listener.listen(_MOST)
        except BaseException:
            listener.close()
            raise
    except OSError as problem:
        raise StartError(f"the control socket {path}: {problem.strerror or problem}") from problem
    return listener


def _remove_dead(directory: Path) -> None:
    """Sockets that nobody listens on were left by a runtime that was killed with its guardian."""
    for path in directory.glob(f"*{_SUFFIX}"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe, contextlib.suppress(OSError):
            probe.setblocking(False)
            try:
                connect(probe, path)
            except ConnectionRefusedError:
                path.unlink()


def exchange(connection: socket.socket, request: Request) -> Answer:
    """Send a request and return its answer, empty if the other end has closed. Raises TimeoutError when nothing was heard for
    `SILENCE` seconds, OSError and ValueError."""
    connection.settimeout(SILENCE)
    with contextlib.suppress(BrokenPipeError):  # who is not listened to may have been told why
        connection.sendall(_line(request))
    heard = bytearray()
    while piece := connection.recv(1 << 16):
        heard += piece
        if heard.lstrip(b"\n").endswith(b"\n"):
            break
    answer = json.loads(heard or b"{}")
    return answer if isinstance(answer, dict) else {}


def _line(said: Mapping[str, Any]) -> bytes:
    return json.dumps(said).encode() + b"\n"


class Control:
    """Listens for commands, from `start` to `close`."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, path: Path, handle: Callable[[Request], Awaitable[Answer]]
    ) -> None:
        self._loop = loop
        self._path = path
        self._handle = handle
        self._listener: socket.socket | None = None
        self._lock: int | None = None
        """Holds the directory's lock."""
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Raises StartError."""
        self._listener = listen_at(self._path)
        # A look for live sockets would not find ours: its address is not its path. And nobody who holds the folder may hold up a start.
        self._lock = lock(self._path.parent, wait=False)
        self._loop.add_reader(self._listener, self._accept)

    def close(self) -> None:
        """Listen no more. Who waits for an answer gets none."""
        for task in self._tasks:
            task.cancel()
        if self._listener is not None:
            self._loop.remove_reader(self._listener)
            self._listener.close()
            self._listener = None
            remove(self._path)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _accept(self) -> None:
        if self._listener is None:
            return
        with contextlib.suppress(OSError):
            connection, _ = self._listener.accept()
            os_pid, uid = peer_of(connection)
            if uid not in (0, os.geteuid()):
                logger.warning("the control socket: the user %d (os process %d) is refused", uid, os_pid)
                connection.close()
                return
            connection.setblocking(False)
            if len(self._tasks) >= _MOST:
                with connection:
                    connection.send(_line({"good": False, "lines": [_BUSY]}))
                return
            task = self._loop.create_task(self._serve(connection))
            self._tasks.add(task)
            task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (problem := task.exception()) is not None:
            self._loop.call_exception_handler({"message": "a command failed", "exception": problem})

    async def _serve(self, connection: socket.socket) -> None:
        with connection:
            try:
                async with asyncio.timeout(_PATIENCE):
                    request = await self._read(connection)
            except (OSError, TimeoutError):
                return
            signs = self._loop.create_task(self._give_signs(connection))
            try:
                answer = (
                    await self._handle(request) if request is not None else {"good": False, "lines": ["no request"]}
                )
            finally:
                signs.cancel()
                await asyncio.wait([signs])
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(_PATIENCE):
                    await self._loop.sock_sendall(connection, _line(answer))

    async def _give_signs(self, connection: socket.socket) -> None:
        """Until cancelled. Who does not read does not need any: none is sent in part, because it is one byte."""
        while True:
            await asyncio.sleep(SIGN)
            with contextlib.suppress(OSError):
                connection.send(b"\n")

    async def _read(self, connection: socket.socket) -> Request | None:
        line = bytearray()
        while not line.endswith(b"\n"):
            piece = await self._loop.sock_recv(connection, 1 << 12)
            line += piece
            if not piece or len(line) > MAX_REQUEST:
                return None
        try:
            request = json.loads(line)
        except (ValueError, RecursionError):
            return None
        return request if isinstance(request, dict) else None
