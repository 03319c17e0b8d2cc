"""Listening sockets that the service manager passes: from socket units, and from the file descriptor store.

Owns which passed socket belongs to which `http.service`. A socket unit says so with `FileDescriptorName=`: the service's name,
or its id with `/` for `:`, which systemd does not allow there. What does not fit is a start error: a runtime that listens
elsewhere than its operator thinks is worse than one that does not start.

What the runtime has bound itself goes into the store under a name of ours (`stored/…`) and comes back with the next start, so
that a restart refuses nobody. If the configuration has changed meanwhile, it is let go.
"""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Callable, Collection, Sequence

from ...wire.configuration import Server
from ..errors import StartError
from ..listeners import expected_places, listen_for

STORED = "stored/"

Notify = Callable[[str, Sequence[int]], None]


def descriptor_names(servers: Sequence[Server]) -> dict[str, str]:
    """Return what a socket unit's `FileDescriptorName=` is for each `http.service`: name to id. Its name alone, if only one has
    it; and always `namespace/name`."""
    names: dict[str, list[str]] = {}
    for server in servers:
        names.setdefault(server.id.partition(":")[2], []).append(server.id)
    short = {name: ids[0] for name, ids in names.items() if len(ids) == 1}
    return {server.id.replace(":", "/", 1): server.id for server in servers} | short


class Listening:
    """Every listening socket of this boot, wherever it came from."""

    def __init__(self, passed: Sequence[tuple[str, int]], servers: Sequence[Server]) -> None:
        """`passed` are names and descriptors, which become this object's. Raises StartError if one does not fit."""
        self._given: dict[str, list[socket.socket]] = {}
        self._from_unit: set[str] = set()
        self._stored: dict[str, list[socket.socket]] = {}
        self._opened: list[tuple[str, socket.socket]] = []
        self._let_go: list[str] = []
        """Names in the store that nobody needs any more."""
        sockets = [(name, _as_socket(name, descriptor)) for name, descriptor in passed]
        try:
            for name, given in sockets:
                self._take(name, given, servers)
        except BaseException:
            for _, given in sockets:
                given.close()
            raise

    def _take(self, name: str, given: socket.socket, servers: Sequence[Server]) -> None:
        by_id = {server.id: server for server in servers}
        if name.startswith(STORED):
            id = name.removeprefix(STORED).replace("/", ":", 1)
            if id in by_id and _is_at(given, by_id[id].address) and _is_reachable(given):
                self._stored.setdefault(id, []).append(given)
            else:
                self._let_go.append(name)
                given.close()
            return
        names = descriptor_names(servers)
        if name not in names:
            expected = f"expected one of {', '.join(names)}" if names else "there is no http.service"
            raise StartError(
                f"the service manager passes a socket named {name!r}: {expected}; it is FileDescriptorName= of the .socket unit"
            )
        server = by_id[names[name]]
        if not given.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            raise StartError(
                f"the socket {name!r} that the service manager passes does not listen: expected ListenStream= and Accept=no"
            )
        if not _is_at(given, server.address):
            raise StartError(
                f"the socket {name!r} that the service manager passes is at {_place(given)}: "
                f"expected {server.address}, which is addr of {server.id}; they are to agree"
            )
        self._from_unit.add(server.id)
        self._given.setdefault(server.id, []).append(given)

    def open(self, server: Server) -> list[socket.socket]:
        """Return the listening sockets of a server: those passed, or else new ones. Raises ListenError."""
        found = self._given.pop(server.id, None) or self._stored.pop(server.id, None)
        if found is None:
            found = listen_for(server)
        if server.id not in self._from_unit:
            self._opened += [(server.id, each) for each in found]
        return found

    def store(self, notify: Notify) -> None:
        """Have the service manager keep what was bound here, and forget what nobody needs."""
        for servers in (self._given, self._stored):  # a unit and the store gave the same, or the server is gone
            for left in servers.values():
                for each in left:
                    each.close()
        for id in self._stored:
            self._let_go.append(_stored_name(id))
        for name in dict.fromkeys(self._let_go):
            notify(f"FDSTOREREMOVE=1\nFDNAME={name}", ())
        for id, listener in self._opened:
            notify(f"FDSTORE=1\nFDNAME={_stored_name(id)}", (listener.fileno(),))

    @property
    def pinned(self) -> frozenset[str]:
        """The servers whose sockets a socket unit has passed: what they listen on is decided there."""
        return frozenset(self._from_unit)

    @staticmethod
    def exchange(old: Collection[str], new: Sequence[tuple[str, socket.socket]], notify: Notify) -> None:
        """After a reload: have the service manager forget the sockets of the `old` servers, and keep the `new` ones."""
        for id in old:
            notify(f"FDSTOREREMOVE=1\nFDNAME={_stored_name(id)}", ())
        for id, listener in new:
            notify(f"FDSTORE=1\nFDNAME={_stored_name(id)}", (listener.fileno(),))

    def keeps(self, id: str, *, stores: bool) -> bool:
        """Whether the service manager holds the listening sockets of this server too, so that clients may wait in their
        queues while this runtime is restarted. `stores`: whether there is one that was asked to."""
        return id in self._from_unit or stores


def _stored_name(id: str) -> str:
    return STORED + id.replace(":", "/", 1)


def _as_socket(name: str, descriptor: int) -> socket.socket:
    try:
        if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            raise OSError("it is no socket")
        given = socket.socket(fileno=descriptor)
    except OSError as problem:
        raise StartError(f"the service manager passes {name!r}, which cannot be served: {problem}") from problem
    if given.type != socket.SOCK_STREAM or given.family not in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX):
        given.close()
        raise StartError(f"the service manager passes {name!r}, which cannot be served: expected ListenStream=")
    return given


def _is_at(given: socket.socket, address: str) -> bool:
    """Whether a socket listens where the configuration says."""
    if given.family == socket.AF_UNIX:
        return address == f"unix:{given.getsockname()}"
    if address.startswith("unix:"):
        return False
    host, port = given.getsockname()[:2]
    try:
        places = expected_places(address)
    except OSError:
        return False
    if (host, port) in places or (host, 0) in places:
        return True
    both = host == "::" and not given.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)  # IPv4 too
    return both and any(wanted in (("0.0.0.0", port), ("0.0.0.0", 0)) for wanted in places)


def _is_reachable(given: socket.socket) -> bool:
    """A socket file may have been removed while the socket was in the store."""
    if given.family != socket.AF_UNIX:
        return True
    try:
        return stat.S_ISSOCK(os.stat(given.getsockname()).st_mode)
    except OSError:
        return False


def _place(given: socket.socket) -> str:
    if given.family == socket.AF_UNIX:
        return f"unix:{given.getsockname()}"
    host, port = given.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
