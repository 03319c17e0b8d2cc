"""Upgrade, from both sides (S35): the old code hands over and ends, the new code goes on where it stopped.

The supervisor answers an Upgrade with one end of a channel, and that answer is the last frame on control: so the old code has
read everything that was sent before it. It writes what is unsent, packs its state into a memory file and sends that, with its
end of the data channel, into the channel that it got. What is not yet read there stays in the socket, and half a frame goes
along in the state. Its new code is born with the other end.

Like `execve`, this ends the old code where it stands: no `finally` and no `atexit` callback runs.
"""

from __future__ import annotations

import array
import os
import socket
from typing import NoReturn, Protocol

from ...kernel.wire import messages as wire
from ...kernel.wire.errors import LimitExceeded
from ..core.hand_over import State, dump, load
from ..core.mailbox import Mailbox
from ..core.outgoing import frame
from ..core.requests import Requests
from . import rlimits
from .channels import Duplex, data_channel
from .ending import flush_output
from .outbox import Outbox

_DESCRIPTORS = 3
"""What the hand-over needs for itself: its channel, the memory file, and one to spare."""
_RIGHTS = array.array("i", [0, 0])


class Owner(Protocol):
    """What of the runtime is handed over."""

    control: Duplex
    data: Duplex | None
    mailbox: Mailbox
    requests: Requests
    outbox: Outbox
    cpu_used: int


def check_room() -> None:
    """Raise LimitExceeded if this process has too many files open to hand over."""
    opened: list[int] = []
    try:
        for _ in range(_DESCRIPTORS):
            opened.append(os.eventfd(0, os.EFD_CLOEXEC))
    except OSError as error:
        raise LimitExceeded(f"not upgraded: the hand-over needs {_DESCRIPTORS} descriptors: {error}") from None
    finally:
        for descriptor in opened:
            os.close(descriptor)


def hand_over(owner: Owner, descriptor: int) -> NoReturn:
    """Hand over into the channel `descriptor`, and end. Raises OSError if that cannot be."""
    flush_output()
    data = owner.data
    if data is not None:
        data.writer.seal()
        data.writer.finish()
    cpu_used = owner.cpu_used + rlimits.cpu_used()
    unfinished = b"" if data is None else data.reader.unfinished
    memory = os.memfd_create("wsrelay-upgrade", os.MFD_CLOEXEC)
    for piece in dump(
        State(owner.mailbox.contents(), owner.requests.last, unfinished, cpu_used, owner.outbox.coalescing)
    ):
        _write_all(memory, piece)
    descriptors = [memory] if data is None else [memory, data.fileno()]
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))]
    with socket.socket(fileno=descriptor) as end:
        end.sendmsg([b"\0"], rights, socket.MSG_NOSIGNAL)
    control = owner.control.writer
    control.wait(control.write(frame(wire.HandedOver(cpu_used)), last=True))
    os._exit(0)


def take_over(owner: Owner, descriptor: int) -> None:
    """Go on with what the old code has left in the channel `descriptor`. Raises an exception of some kind if that cannot be."""
    memory, channel = _receive(descriptor)
    with open(memory, "rb") as file:
        size = os.fstat(memory).st_size
        state = load(os.pread(file.fileno(), size, 0) if size else b"")
    owner.mailbox.restore(state.contents)
    owner.requests.last = state.last_request
    owner.cpu_used = state.cpu_used
    owner.outbox.set_coalescing(state.coalescing)
    if channel is not None:
        owner.data = data_channel(socket.socket(fileno=channel), state.contents.gateway)
        owner.data.reader.resume(state.unfinished)


def _write_all(memory: int, piece: bytes) -> None:
    view = memoryview(piece)
    while view:
        view = view[os.write(memory, view) :]


def _receive(descriptor: int) -> tuple[int, int | None]:
    """Return the memory file, and the data channel if the old code had one."""
    space = socket.CMSG_SPACE(len(_RIGHTS) * _RIGHTS.itemsize)
    with socket.socket(fileno=descriptor) as end:
        _, ancillary, flags, _ = end.recvmsg(1, space, socket.MSG_CMSG_CLOEXEC)
    numbers = array.array("i")
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            numbers.frombytes(content)
    if flags & socket.MSG_CTRUNC or not numbers:
        raise OSError("the old code's state is not there")
    return numbers[0], numbers[1] if len(numbers) > 1 else None
