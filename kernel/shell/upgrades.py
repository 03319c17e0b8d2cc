"""The channels of an upgrade (S35): what the old code of a worker and the new one need to follow each other.

The state goes from the one to the other on a channel of its own. The supervisor makes it, gives one end to the old code and
keeps the other only in the queue for the new one: it never reads what is in there, and holds no descriptor of a worker's.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable

from ..core.effects import PrepareUpgrade
from ..wire import messages as m
from ..wire.channel import channel_pair
from .host import Host
from .machine import check_spare_descriptors
from .worker import WorkerHandle


def prepare(
    handle: WorkerHandle, effect: PrepareUpgrade, make_handle: Callable[[int, str, socket.socket], WorkerHandle]
) -> None:
    """Let the old code hand over, and have what is sent to the worker wait for the new code.

    Raises OSError if the descriptors do not suffice; then nothing has happened.
    """
    with contextlib.ExitStack() as stack:
        control_here, control_there = map(stack.enter_context, channel_pair())
        old_end, new_end = map(stack.enter_context, channel_pair())
        check_spare_descriptors(new_end.fileno() + 4)
        successor = make_handle(handle.number, handle.host, control_here.dup())
        try:
            successor.unborn_end = control_there.dup()
            successor.attachment.send(m.Resume(effect.start), new_end.fileno())
            handle.attachment.send(m.HandOver(effect.request), old_end.fileno())
        except OSError:
            successor.close()
            raise
    handle.successor = successor


def fork(handle: WorkerHandle, host: Host) -> None:
    """Have the new code's worker forked. Raises OSError without a descriptor to spare."""
    end, handle.unborn_end = handle.unborn_end, None
    if end is None:
        raise AssertionError("a worker is forked once")
    with end:
        host.fork(handle.number, end.fileno())
