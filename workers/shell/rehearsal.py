"""What every newborn does, done in the fork server, before it forks anybody.

The first times that code runs, CPython writes into it: it specialises the bytecode, and keeps what it has looked up in types and
libraries. A process that does so after its fork copies each page that it writes to, and each copy takes it two microseconds;
what is written before the fork is shared. So a process that is nowhere else starts here, receives, sends and ends, on channels
whose other ends are here too: a worker has half a MiB less of its own for it, and starts sooner by a quarter.

It leaves nothing: no descriptor, no thread, no event loop. No module of a user's is there yet.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager

from ...kernel.wire import logs
from ...kernel.wire import messages as wire
from ...kernel.wire.channel import Channel, channel_pair
from ...kernel.wire.configuration import HostConfiguration
from ...kernel.wire.journal import set_role
from ...kernel.wire.pid import Pid
from .. import process
from ..core.packing import pack, unpack
from . import system, worker
from .current import install
from .runtime import Runtime

_ROUNDS = 20
"""So often that CPython has specialised what it will: 3.11 counts eight calls of a function first."""
_EPOCH = "0" * 16
_SELF = Pid.make("node", "rehearsal:host", _EPOCH, "s", 1)
_PEER = Pid.make("node", "rehearsal:host", _EPOCH, "s", 2)
_CLIENT = Pid.make("node", "rehearsal:gateway", _EPOCH, "g1", 3)
_LAST = "last"
_CONFIGURATION = HostConfiguration("rehearsal:host", no_new_privs=False)
"""Asks for nothing that this process could not take back."""


def rehearse(forker: system.Forker) -> None:
    """Start, receive, send and end, time and again: in turn as a plain handler and as an async one."""
    for count in range(_ROUNDS):
        forker.rehearse()
        with _channels() as (control, supervisor):
            runtime = Runtime()
            start = worker.first_steps(runtime, control, os.getppid(), _CONFIGURATION, 1)
            worker.introduce(runtime, start)
            worker.call(runtime, start.source, "async_handler" if count % 2 else "handler", unpack(start.arguments))
            supervisor.receive()
            install(None)
            runtime.end()
    logs.identify()
    set_role("host")
    asyncio.set_event_loop_policy(None)  # one that has had a loop makes no other for `get_event_loop`


@contextmanager
def _channels() -> Iterator[tuple[int, Channel]]:
    """The descriptor of a newborn's control channel, and the supervisor's end, which has said all that it will."""
    (ours, control), (gateway, data) = channel_pair(), channel_pair()
    with closing(Channel(ours, wire.WORKER_TO_SUPERVISOR)) as supervisor, gateway, data:
        supervisor.send(wire.OpenData(1), data.fileno())
        source, arguments = f"python://{__name__}", pack([], "args")
        supervisor.send(wire.Start(1, _SELF, "rehearsal:host", "rehearsal:entry", source, "", arguments, 1 << 20))
        for topic in ("first", "next", _LAST):
            supervisor.send(wire.Deliver(_PEER, topic, pack(_PEER)))
        supervisor.flush()
        yield control.detach(), supervisor


def handler() -> None:
    """What a plain handler does: receive, and send to processes and connections."""
    for message in process.inbox():
        process.send(message.payload, message.topic)
        process.send(_PEER, message.topic, [message.payload])
        process.send(_CLIENT, "ws.send", {"type": "text", "data": message.payload})
        if message.topic == _LAST:
            return


async def async_handler() -> None:
    """The same on an event loop."""
    async for message in process.inbox():
        await process.send(message.payload, message.topic)
        await process.send(_PEER, message.topic, [message.payload])
        await process.send(_CLIENT, "ws.send", {"type": "text", "data": message.payload})
        if message.topic == _LAST:
            return
