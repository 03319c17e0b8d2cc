"""Sending, in both colours of handlers: resolve what is named, then write each frame once.

What `process.send` and `process.groups.broadcast` share. A name or a group is resolved for the sender by a request; then the
message goes on the path that belongs to each PID (S6). `process.terminate` may need a second path.
"""

from __future__ import annotations

import time
from typing import Any

from ...kernel.wire import messages as wire
from ...kernel.wire.errors import NotFound
from ...kernel.wire.pid import Pid
from ..core import outgoing
from .asynchronous import TERMINATE_PATIENCE
from .runtime import Runtime


def nothing(request: int, value: Any) -> None:
    """What a request finishes with that has no value."""
    return


def lookup(runtime: Runtime, name: str) -> Any:
    """Return the holder of a name, None if there is none."""

    def finish(request: int, value: Any) -> Pid | None:
        return None if value is None else Pid(value)

    return runtime.request(lambda request: wire.Lookup(request, name), finish)


async def send_to_names_async(runtime: Runtime, destinations: outgoing.Destinations, topic: str, payload: Any) -> None:
    """Resolve the names, then send."""
    found = tuple([await lookup(runtime, name) for name in destinations.names])
    await send_to_pids(runtime, destinations, destinations.pids + known(destinations, found), topic, payload)


def known(destinations: outgoing.Destinations, found: tuple[Pid | None, ...]) -> tuple[Pid, ...]:
    """Return the holders of the names. Raises NotFound."""
    for name, holder in zip(destinations.names, found, strict=True):
        if holder is None:
            raise NotFound(f"no process has the name {name!r}: process.registry.register gives it one")
    return tuple(holder for holder in found if holder is not None)


def send_to_pids(
    runtime: Runtime, destinations: outgoing.Destinations, pids: tuple[Pid, ...], topic: str, payload: Any
) -> Any:
    """Write the message to those that are not known to be dead."""
    live = outgoing.live_pids(pids, runtime.mailbox.observed_dead, several=destinations.several)
    data = runtime.data
    frames = outgoing.compose_message(live, topic, payload, 0 if data is None else data.gateway)
    return runtime.outbox.send_frames(frames, data)


def send_to_pid(runtime: Runtime, pid: Pid, topic: str, payload: Any) -> Any:
    """What `send_to_pids` does for one PID, and most messages go to one: in fewer steps."""
    gateway, serial, prefix = outgoing.route_of(pid)
    observed_dead = runtime.mailbox.observed_dead
    if observed_dead:
        outgoing.live_pids((pid,), observed_dead, several=False)
    if not gateway:
        return runtime.outbox.send(runtime.control, outgoing.message_to_process(pid, topic, payload))
    data = runtime.data
    frame = outgoing.message_to_connection(serial, prefix, topic, payload)
    if data is None or data.gateway != gateway:  # of a gateway that is dead, and so is it
        return runtime.outbox.send_frames(outgoing.Frames(), None)
    return runtime.outbox.send(data, frame)


def terminate(runtime: Runtime, frames: outgoing.Frames) -> Any:
    """Write the frames of `terminate`: on control only if there is no data frame, or it cannot be written in time."""
    data = runtime.data
    if frames.data is None or frames.control is None or data is None:
        return runtime.post(frames, data)
    runtime.require_handler_thread()
    runtime.come_back()
    unsent = data.writer.write(frames.data)
    if data.writer.is_out(unsent):
        return runtime.post(outgoing.Frames(), data)
    if runtime.port is not None:
        return runtime.port.terminate(data, unsent, outgoing.Frames(control=frames.control))
    if not data.writer.wait(unsent, time.monotonic() + TERMINATE_PATIENCE):
        runtime.post(outgoing.Frames(control=frames.control), data)
    return None
