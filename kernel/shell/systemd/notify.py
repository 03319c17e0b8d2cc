"""The notification protocol of sd_notify(3), from the supervisor through the guardian to the service manager.

A notification is one datagram of lines `NAME=value`, with descriptors where they are to be stored. systemd takes it from the
main process alone (`NotifyAccess=main`): that is the guardian, so that no worker can say `STOPPING=1` for us, whatever it
knows. The supervisor therefore writes to a socketpair that only it and the guardian have, and the guardian passes on.

Nothing here ever waits. A notification that cannot be sent now is dropped if the next one will say the same (STATUS, WATCHDOG),
and otherwise kept and sent later. Our own lines and no library: those there are pass no descriptors, wait for the socket, or
need a compiler, and it is this one page.
"""

from __future__ import annotations

import array
import contextlib
import errno
import os
import socket
from collections import deque
from collections.abc import Sequence

LARGEST = 16 << 10
"""Bytes of a notification that the guardian passes on; systemd takes 4 KiB and more."""
MOST_DESCRIPTORS = 8
_MOST_WAITING = 64
"""Notifications that are kept. The supervisor sends a handful in its life."""
_REPEATED = ("STATUS=", "WATCHDOG=1", "EXTEND_TIMEOUT_USEC=")
_BUSY = frozenset({errno.EAGAIN, errno.ENOBUFS, errno.EINTR})

Notification = tuple[bytes, tuple[int, ...]]


def is_repeated(text: bytes) -> bool:
    """Whether the notification may be dropped: what it says will be said again."""
    return all(line.startswith(_REPEATED) for line in text.decode(errors="replace").splitlines())


class Outlet:
    """Sends notifications into a socket, without ever waiting for it."""

    def __init__(self, end: socket.socket, address: str | bytes | None = None) -> None:
        """`address` is where datagrams go; None if `end` is connected."""
        self._end = end
        end.setblocking(False)
        self._address = address
        self._waiting: deque[Notification] = deque()
        self.problem: OSError | None = None
        """Why the last notification was lost for good."""

    @property
    def waiting(self) -> bool:
        """Whether something is to be sent later: call `retry`."""
        return bool(self._waiting)

    def send(self, text: bytes, descriptors: Sequence[int] = ()) -> None:
        """Send, keep or drop it. The descriptors stay the caller's."""
        self.retry()
        if not self._waiting and self._send(text, descriptors):
            return
        if not is_repeated(text) and len(self._waiting) < _MOST_WAITING:
            self._waiting.append((text, tuple(map(os.dup, descriptors))))

    def retry(self) -> None:
        """Send what has been kept, in order, as far as that goes."""
        while self._waiting:
            text, descriptors = self._waiting[0]
            if not self._send(text, descriptors):
                return
            self._waiting.popleft()
            for descriptor in descriptors:
                os.close(descriptor)

    def _send(self, text: bytes, descriptors: Sequence[int]) -> bool:
        """Return whether that is done with: sent, or lost because nobody is there."""
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
        try:
            if self._address is None:
                self._end.sendmsg([text], rights, socket.MSG_NOSIGNAL)
            else:
                self._end.sendmsg([text], rights, socket.MSG_NOSIGNAL, self._address)
        except OSError as problem:
            if problem.errno in _BUSY:
                return False
            self.problem = problem
        return True

    def close(self) -> None:
        """Forget what is kept."""
        for _, descriptors in self._waiting:
            for descriptor in descriptors:
                os.close(descriptor)
        self._waiting.clear()
        self._end.close()


class Relay:
    """The guardian's part: passes on what the supervisor says, and what nobody else can."""

    def __init__(self, address: str) -> None:
        """`address` is NOTIFY_SOCKET's: a path, or a name that starts with `@`. Made before the fork; raises OSError."""
        self._inner, self._outer = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._outer.setblocking(False)
        self._manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._outlet = Outlet(self._manager, b"\0" + address[1:].encode() if address.startswith("@") else address)

    def for_supervisor(self) -> Outlet:
        """In the supervisor: its end. What is the guardian's is closed."""
        self._outer.close()
        self._outlet.close()
        return Outlet(self._inner)

    def for_guardian(self) -> list[int]:
        """In the guardian: the descriptors that it keeps. What is the supervisor's is closed."""
        self._inner.close()
        return [self._outer.fileno(), self._manager.fileno()]

    def fileno(self) -> int:
        """Readable when the supervisor has said something."""
        return self._outer.fileno()

    @property
    def waiting(self) -> bool:
        """Whether `pass_on` is to be called again soon."""
        return self._outlet.waiting

    def close(self) -> None:
        """Pass on nothing more."""
        self._inner.close()
        self._outer.close()
        self._outlet.close()

    @property
    def problem(self) -> OSError | None:
        """Why the service manager cannot be told; None if it can."""
        return self._outlet.problem

    def pass_on(self) -> None:
        """Pass on what there is. Never raises: the guardian has more important things to do."""
        with contextlib.suppress(OSError):
            self._outlet.retry()
            while True:
                text, descriptors, _, _ = socket.recv_fds(self._outer, LARGEST, MOST_DESCRIPTORS)
                try:
                    if not text:
                        return
                    self._outlet.send(text, descriptors)
                finally:
                    for descriptor in descriptors:
                        os.close(descriptor)
