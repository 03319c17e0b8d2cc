"""Listening sockets: bound by the supervisor, served by the gateway, so that a gateway's restart refuses nobody."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from typing import Any

from ..wire.configuration import Server
from .errors import StartError

BACKLOG = 2048


class ListenError(StartError):
    """An address cannot be listened on: what, and why."""


def listen(address: str) -> list[socket.socket]:
    """Return the listening sockets of `host:port`, `:port` or `unix:/path`.

    A host name may have several addresses, and none stands for those of IPv4 and IPv6; what a machine without IPv6 lacks of them is left
    out. With port 0 they all get the port that the first was given. Raises ListenError.
    """
    try:
        if address.startswith("unix:"):
            return [_listen_unix(address.removeprefix("unix:"))]
        return _listen_tcp(address)
    except OSError as problem:
        raise ListenError(f"cannot listen on {address}: {problem.strerror or problem}") from problem


def listen_for(server: Server) -> list[socket.socket]:
    """Return the listening sockets of a server. Raises ListenError, with the place of its `addr`."""
    try:
        return listen(server.address)
    except ListenError as problem:
        raise ListenError(f"{server.places.get('addr', server.id)}: addr: {problem} ({server.id})") from problem


def _listen_unix(path: str) -> socket.socket:
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISSOCK(os.stat(path).st_mode):
            _check_stale(path)
            os.unlink(path)
    listener = _FileSocket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(path)
        listener.file = _file_at(path)
        listener.listen(BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


class _FileSocket(socket.socket):
    """A Unix socket that knows its file from another one at the same path."""

    file: tuple[int, int] | None = None
    """Device and inode; None if they could not be seen."""


def _file_at(path: str) -> tuple[int, int] | None:
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _check_stale(path: str) -> None:
    """Only a socket file that nobody listens on may be replaced."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe, contextlib.suppress(ConnectionRefusedError):
        probe.setblocking(False)
        with contextlib.suppress(BlockingIOError):  # its queue is full: one that accepts nobody must not hold us up
            probe.connect(path)
        raise ListenError(f"cannot listen on unix:{path}: somebody does already")


def expected_places(address: str) -> set[tuple[str, int]]:
    """Return the hosts, as numbers, and the port of `host:port` or `:port`. Raises OSError if the name cannot be resolved."""
    return {(str(where[0]), int(where[1])) for _, where in _resolve(address)}


def _resolve(address: str) -> list[tuple[int, tuple[Any, ...]]]:
    host, _, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    try:
        found = socket.getaddrinfo(host or None, int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except UnicodeError as problem:  # a label that is empty or too long
        raise OSError(f"{host} is not the name of a host") from problem
    return list(dict.fromkeys((family, where) for family, _, _, _, where in found))


def _listen_tcp(address: str) -> list[socket.socket]:
    listeners: list[socket.socket] = []
    lacking: OSError | None = None
    try:
        for family, where in _resolve(address):
            port = where[1]
            if port == 0 and listeners:
                where = (where[0], listeners[0].getsockname()[1], *where[2:])
            try:
                listeners.append(_listen_one(family, where))
            except OSError as problem:
                if not _is_for_want_of_ipv6(problem, where):
                    raise
                lacking = problem
        if lacking is not None and not listeners:
            raise lacking
    except BaseException:
        for listener in listeners:
            listener.close()
        raise
    return listeners


def _is_for_want_of_ipv6(problem: OSError, where: tuple[object, ...]) -> bool:
    """Whether the kernel has no IPv6, or has it disabled so that there is no ::1. The resolver names such addresses all the same."""
    return problem.errno == errno.EAFNOSUPPORT or (problem.errno == errno.EADDRNOTAVAIL and where[0] == "::1")


def _listen_one(family: int, where: tuple[object, ...]) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(where)
        listener.listen(BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


def discard(listener: socket.socket) -> None:
    """Close it, and remove the file of a Unix socket: but not one that somebody else has put into its place."""
    if listener.family == socket.AF_UNIX:
        path = listener.getsockname()
        if not isinstance(listener, _FileSocket) or listener.file == _file_at(path):
            with contextlib.suppress(OSError):
                os.unlink(path)
    listener.close()


def describe(listener: socket.socket, *, tls: bool) -> str:
    """Where it listens, for people: `http://127.0.0.1:8080` or `unix:/path`."""
    if listener.family == socket.AF_UNIX:
        return f"unix:{listener.getsockname()}"
    host, port = listener.getsockname()[:2]
    return f"{'https' if tls else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"
