"""Faults inside a handler: named points in its code, and faults that it performs at once.

    from wsrelay.tools.faults import point

    def ledger():
        for message in process.inbox():
            add(message)
            point("added")       # does nothing, unless a test has put a fault here
            remember(message)

Works only in a runtime that the kit has started: that sets WSRELAY_FAULTS to a folder of its own, in which each file arms one
point. In production the variable is not set, and a point costs one look into the environment. Imports the standard library
alone. Which channel is which is seen from outside, as a stranger in the process would: it is the operating system's knowledge.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NoReturn

from .kinds import (
    BusyLoop,
    ExitCode,
    Fault,
    ForkKeepsChannel,
    Garbage,
    HoldGIL,
    MemoryHog,
    OsExit,
    Raise,
    Segfault,
    Signal,
    StackOverflow,
    TornFrame,
    parse,
)

VARIABLE: Final = "WSRELAY_FAULTS"
"""The folder of the armed points; unset in production."""
TOPIC: Final = "fault"
"""A message with this topic, or a client's text that begins with `fault: `, holds a fault for `obey`."""
_PREFIX: Final = "fault: "
_TORN: Final = b"\x93\x02"
"""An array of three begins, and its tag: a frame of which the rest never comes."""


class InjectedFault(Exception):
    """What `Raise` raises."""


class NoChannel(ValueError):
    """There is no channel to write to: this is no worker, or no gateway serves; and for `Garbage` also that the channel has ended,
    because its gateway has just died. Nothing was done."""


class PointsUnreachable(RuntimeError):
    """The folder of the armed points cannot be read or written from here."""


def point(name: str) -> None:
    """A place in a handler where a test can put a fault. What is armed for the point is done once, by who comes first. Raises
    PointsUnreachable in a runtime of the kit that hides the points from this process."""
    folder = os.environ.get(VARIABLE)
    if folder:
        fault = _claim(Path(folder), name)
        if fault is not None:
            inject(fault)


def obey(message: Any) -> bool:
    """For the loop of a handler under test: perform the fault that `message` asks for, and return whether it asked.

    Asks: a message with the topic `fault` whose payload is `repr(fault)`, or a client's text message `fault: repr(fault)`.
    Outside a runtime that the kit has started nothing is done, and False is returned: no client can crash what is in production.
    """
    if not os.environ.get(VARIABLE):
        return False
    payload = message.payload
    if message.topic == TOPIC and isinstance(payload, str):
        text = payload
    elif isinstance(payload, dict) and isinstance(said := payload.get("data"), str) and said.startswith(_PREFIX):
        text = said.removeprefix(_PREFIX)
    else:
        return False
    inject(parse(text))
    return True


def order(fault: Fault) -> str:
    """The text with which a client asks a handler that calls `obey`."""
    return f"{_PREFIX}{fault!r}"


def inject(fault: Fault) -> None:
    """Perform a fault in this process. Returns only from those that let it go on. Raises TypeError for one that cannot be
    done from inside, and NoChannel where there is no channel to be written to."""
    perform = _PERFORM.get(type(fault))
    if perform is None:
        raise TypeError(f"{fault!r} cannot be performed inside a handler: it is {_places(fault)}")
    perform(fault)


def _places(fault: Fault) -> str:
    return " or ".join(sorted(place.value for place in fault.places))


def _claim(folder: Path, name: str) -> Fault | None:
    """Take the next of what is armed for this point: a file for each time that it is reached, in order. Raises PointsUnreachable:
    a fault that is never done would look like one that does no harm."""
    try:
        for token in sorted(each for each in os.listdir(folder) if each.rpartition("@")[0] == name):
            with contextlib.suppress(FileNotFoundError):  # somebody else was first
                text = (folder / token).read_text()
                (folder / token).unlink()
                return parse(text) if text else None
    except OSError as error:
        raise PointsUnreachable(
            f"the armed points are in {folder} ({VARIABLE}), and this process may not read and write there: {error}"
        ) from error
    return None


def _raise(fault: Raise) -> NoReturn:
    raise InjectedFault(fault.text)


def _exit(fault: ExitCode) -> NoReturn:
    sys.exit(fault.code)


def _os_exit(fault: OsExit) -> NoReturn:
    os._exit(fault.code)


def _signal(fault: Signal) -> None:
    number = signal.Signals[fault.name]
    if number not in (signal.SIGKILL, signal.SIGSTOP):
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    _wait_for_ever()


def _segfault(fault: Segfault) -> None:
    ctypes.string_at(0)


def _overflow(fault: StackOverflow) -> None:
    """The parser of the C library's regular expressions recurses for each parenthesis: Python's own limit does not see it."""
    ctypes.CDLL(None).regcomp(ctypes.create_string_buffer(4096), b"(" * 4_000_000, 1)


def _hog(fault: MemoryHog) -> NoReturn:
    hoard = [bytearray(os.urandom(4096)) * 256 for _ in range(fault.size // (4096 * 256))]
    while hoard:
        select.select([], [], [])
    raise AssertionError("unreachable: nobody empties it")


def _loop(fault: BusyLoop) -> None:
    end = float("inf") if fault.seconds is None else time.monotonic() + fault.seconds
    while time.monotonic() < end:
        pass


def _hold(fault: HoldGIL) -> None:
    """A PyDLL does not let go of the lock while its function runs."""
    library = ctypes.PyDLL(None)
    if fault.seconds is None:
        while True:
            library.pause()
    library.usleep(int(fault.seconds * 1_000_000))


def _fork(fault: ForkKeepsChannel) -> None:
    if os.fork() == 0:
        os.setsid()
        _wait_for_ever()
    os.kill(os.getpid(), signal.SIGKILL)


def _garbage(fault: Garbage) -> None:
    _write(_channel(fault.channel), fault.data)
    _wait_for_ever()


def _tear(fault: TornFrame) -> None:
    channel = _channel(fault.channel)
    with contextlib.suppress(NoChannel):  # its gateway has just died: there is nobody to tear a frame for
        _write(channel, _TORN)
    os.kill(os.getpid(), signal.SIGKILL)


def _wait_for_ever() -> NoReturn:
    while True:
        select.select([], [], [], 60.0)


def _write(channel: int, data: bytes) -> None:
    """Write bytes to a channel, when there is room. Raises NoChannel if it has ended."""
    try:
        while data:
            try:
                data = data[os.write(channel, data) :]
            except BlockingIOError:
                select.select([], [channel], [])
    except ConnectionError as error:
        raise NoChannel("the channel has ended: who was at its other end is dead") from error


def _channel(name: str) -> int:
    """The descriptor of this worker's `control` or `data` channel: socket pairs that its parent, the supervisor, has made. The
    one that it was born with is control; while there is no gateway it has no other."""
    found = [number for number in map(int, os.listdir("/proc/self/fd")) if _made_by_parent(number)]
    if name not in ("control", "data") or len(found) < (1 if name == "control" else 2):
        raise NoChannel(
            f"there is no channel {name!r} here: expected control, or data while a gateway serves, in a worker"
        )
    return min(found) if name == "control" else max(found)


def _made_by_parent(descriptor: int) -> bool:
    try:
        end = socket.socket(fileno=os.dup(descriptor))
    except OSError:
        return False
    with end:
        if end.family != socket.AF_UNIX:
            return False
        size = struct.calcsize("3i")
        maker: int = struct.unpack("3i", end.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))[0]
        return maker == os.getppid()


_PERFORM: Final[dict[type[Fault], Callable[[Any], None]]] = {
    Raise: _raise,
    ExitCode: _exit,
    OsExit: _os_exit,
    Signal: _signal,
    Segfault: _segfault,
    StackOverflow: _overflow,
    MemoryHog: _hog,
    BusyLoop: _loop,
    HoldGIL: _hold,
    ForkKeepsChannel: _fork,
    Garbage: _garbage,
    TornFrame: _tear,
}
