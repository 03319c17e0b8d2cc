"""The controller of failpoints: holds processes of the runtime between two steps, or has them die there.

    with Controller(folder / "failpoints") as controller:
        controller.arm("death.committed")
        with running_runtime(…, environment=controller.environment()):
            …
            hit = controller.wait_hit("death.committed")
            …                                   # the supervisor stands still here
            controller.release(hit)

What is to happen is a schedule: a tuple of `Step`, which prints as Python that can be pasted into a test. The hits of all
processes are counted in the order in which they come to the controller, each name by itself, from 1. When the controller ends,
everybody goes on.
"""

from __future__ import annotations

import os
import selectors
import signal
import socket
import threading
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from ...kernel.wire.failpoints import DIE, FAILPOINTS, GO, NAMES_VARIABLE, SOCKET_VARIABLE

__all__ = ["FAILPOINTS", "HOLD", "Controller", "Hit", "Step"]

HOLD = "hold"
"""The action that lets a process wait until it is released."""
_MAX_MESSAGE = 256


class Step(NamedTuple):
    """What is to happen at the `nth` hit of a failpoint: `HOLD`, or the name of a signal that the process dies of."""

    name: str
    nth: int = 1
    action: str = HOLD


class Hit(NamedTuple):
    """A process is, or was, at a failpoint."""

    name: str
    nth: int
    role: str
    os_pid: int


class Controller:
    """Listens on a Unix socket, and answers every process that comes to a failpoint."""

    def __init__(self, path: str | os.PathLike[str], schedule: Iterable[Step] = ()) -> None:
        """`path` is that of the socket, at most 107 bytes. Raises OSError, and ValueError for a step that cannot be."""
        self._path = os.fspath(path)
        self._changed = threading.Condition()
        self._schedule: dict[tuple[str, int], str] = {}
        self._counts: Counter[str] = Counter()
        self._held: dict[Hit, socket.socket] = {}
        self._ended = False
        self.hits: list[Hit] = []
        """Every hit so far, in order."""
        for step in schedule:
            self.arm(*step)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        try:
            self._listener.bind(self._path)
            self._listener.listen(1024)
        except BaseException:
            self._listener.close()
            raise
        os.chmod(self._path, 0o666)  # a host may run as another user
        self._thread = threading.Thread(target=self._serve, name="failpoints", daemon=True)
        self._thread.start()

    def __enter__(self) -> Controller:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def schedule(self) -> tuple[Step, ...]:
        """All that was armed, as a value to be printed and used again."""
        return tuple(Step(name, nth, action) for (name, nth), action in self._schedule.items())

    def environment(self, names: Iterable[str] | None = None) -> Mapping[str, str]:
        """The environment variables of a runtime that asks this controller. `names` restricts who asks: to what is armed
        or waited for, because each hit costs a round trip. By default all ask."""
        variables = {SOCKET_VARIABLE: self._path}
        if names is not None:
            variables[NAMES_VARIABLE] = ",".join(names)
        return variables

    def arm(self, name: str, nth: int = 1, action: str = HOLD) -> None:
        """Have the `nth` hit of this name do something; the hits before and after go on. Raises ValueError."""
        if name not in FAILPOINTS:
            raise ValueError(f"there is no failpoint {name!r}: expected one of {', '.join(FAILPOINTS)}")
        if nth < 1:
            raise ValueError(f"hits are counted from 1, got {nth}")
        if action != HOLD and action not in signal.Signals.__members__:
            raise ValueError(f"expected {HOLD!r} or the name of a signal, got {action!r}")
        with self._changed:
            self._schedule[name, nth] = action

    def arm_next(self, name: str, action: str = HOLD) -> int:
        """Arm the next hit of this name, whichever it is. Returns its number."""
        with self._changed:
            nth = self._counts[name] + 1
        self.arm(name, nth, action)
        return nth

    def withdraw(self, name: str, nth: int) -> Hit | None:
        """Let this hit go on, if it has not come yet: then None. Otherwise it is returned, and what was armed has happened."""
        with self._changed:
            self._schedule.pop((name, nth), None)
            return next((hit for hit in self.hits if (hit.name, hit.nth) == (name, nth)), None)

    def forget(self) -> None:
        """Disarm, and forget the hits so far, though not their numbers: for a run of many schedules. Whoever is held stays."""
        with self._changed:
            self._schedule.clear()
            self.hits.clear()

    def wait_hit(self, name: str, nth: int = 1, timeout: float = 30.0) -> Hit:
        """Wait until this hit has come; one that is armed with `HOLD` then stands there. Raises TimeoutError."""

        def found() -> Hit | None:
            return next((hit for hit in self.hits if (hit.name, hit.nth) == (name, nth)), None)

        with self._changed:
            if not self._changed.wait_for(lambda: found() is not None, timeout):
                raise TimeoutError(f"{name} was hit {self._counts[name]} times within {timeout:g} s, expected {nth}")
            hit = found()
        if hit is None:
            raise AssertionError("a hit that was found is gone")
        return hit

    def release(self, hit: Hit, signal_name: str | None = None) -> None:
        """Let a process that is held go on, or die of a signal. Raises KeyError if it is not held."""
        with self._changed:
            channel = self._held.pop(hit)
        _answer(channel, HOLD if signal_name is None else signal_name)

    def reached(self) -> frozenset[str]:
        """The names of all failpoints that were hit."""
        with self._changed:
            return frozenset(self._counts)

    def close(self) -> None:
        """Let everybody go on, and ask nobody to stop any more. Removes the socket."""
        with self._changed:
            if self._ended:
                return
            self._ended = True
            held = list(self._held.values())
            self._held.clear()
        for channel in held:
            _answer(channel, HOLD)
        self._listener.shutdown(socket.SHUT_RDWR)  # ends the accept
        self._thread.join()
        self._listener.close()
        os.unlink(self._path)

    # --- the thread ---------------------------------------------------------------------------------------------------

    def _serve(self) -> None:
        """Nobody waits for anybody else: a process may be stopped between its connection and what it says there."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select():
                    channel = key.fileobj
                    if not isinstance(channel, socket.socket):
                        raise TypeError("only sockets are registered")
                    if channel is not self._listener:
                        selector.unregister(channel)
                        self._hear(channel)
                        continue
                    try:
                        selector.register(self._listener.accept()[0], selectors.EVENT_READ)
                    except OSError:  # `close` has ended it
                        for waiting in list(selector.get_map().values()):
                            if isinstance(waiting.fileobj, socket.socket) and waiting.fileobj is not self._listener:
                                waiting.fileobj.close()
                        return

    def _hear(self, channel: socket.socket) -> None:
        try:
            name, role, os_pid = channel.recv(_MAX_MESSAGE).decode().split("\0")
            self._take(channel, name, role, int(os_pid))
        except (OSError, ValueError):
            channel.close()

    def _take(self, channel: socket.socket, name: str, role: str, os_pid: int) -> None:
        with self._changed:
            self._counts[name] += 1
            hit = Hit(name, self._counts[name], role, os_pid)
            action = None if self._ended else self._schedule.get((name, hit.nth))
            if action == HOLD:
                self._held[hit] = channel
            self.hits.append(hit)
            self._changed.notify_all()
        if action != HOLD:
            _answer(channel, HOLD if action is None else action)


def _answer(channel: socket.socket, action: str) -> None:
    """Say `go`, or which signal to die of, and close."""
    with channel:
        try:
            channel.send(GO if action == HOLD else DIE + str(int(signal.Signals[action])).encode())
        except OSError:  # it has died
            return
