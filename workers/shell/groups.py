"""`process.groups` (S33), in both colours of handlers.

A group is resolved for who asks; a broadcast is that, and then one message on the path that belongs to each member (S6).
"""

from __future__ import annotations

from typing import Any

from ...kernel.wire import messages as wire
from ...kernel.wire.errors import Invalid
from ...kernel.wire.pid import Pid, check_name
from ..core import outgoing
from ..core.packing import pack
from .current import current
from .runtime import Runtime
from .sending import nothing, send_to_pids


class Groups:
    """`process.groups`: sets of processes, WebSocket connections too (S33). A group exists while it has members.

    A process may make any live process a member. Its death leaves all its groups before any EXIT of it is seen (S15).
    """

    __slots__ = ()

    @staticmethod
    def join(group: str, pid: str | None = None) -> Any:
        """Make a process, this one by default, a member. Returns how often it has now joined, an int: joins are counted.

        Raises NoProc for a process that has ended, LimitExceeded, Invalid.
        """
        runtime = current()
        name, member = _check(runtime, group, pid)
        return runtime.request(lambda request: wire.JoinGroup(request, name, member), _value)

    @staticmethod
    def leave(group: str, pid: str | None = None) -> Any:
        """Take back one join of a process, this one by default. Returns how often it is still joined, 0 if it was no member.
        Raises Invalid."""
        runtime = current()
        name, member = _check(runtime, group, pid)
        return runtime.request(lambda request: wire.LeaveGroup(request, name, member), _value)

    @staticmethod
    def members(group: str) -> Any:
        """Return the distinct members, a list of Pid in the order in which they joined. Raises Invalid."""
        return _members(current(), check_name(group))

    @staticmethod
    def broadcast(group: str, topic: str, payload: Any = None) -> Any:
        """Send a message to each distinct member once, this process too if it is one, in order with what it sends to them
        otherwise (S6). Returns None, as `send` does; with no member nothing happens.

        Raises Invalid for a reserved topic or a payload that a member cannot carry, LimitExceeded over 17 MiB.
        """
        runtime = current()
        outgoing.check_topic(topic)
        name = check_name(group)
        pack(payload)
        if runtime.port is not None:
            return _broadcast_async(runtime, name, topic, payload)
        return _send(runtime, _members(runtime, name), topic, payload)

    @staticmethod
    def watch(group: str) -> Any:
        """Return `(members, ref)`: the members as they are, a list of Pid, and from then on every change comes among the
        events as GroupJoined or GroupLeft with this ref, an int, with no gap.

        A watch is of its own, and counts; unread changes count against the mailbox (S10). Raises LimitExceeded, Invalid.
        """
        runtime = current()
        runtime.require_handler_thread()
        name = check_name(group)

        def make(request: int) -> tuple[Any, ...]:
            runtime.change_mailbox(lambda mailbox: mailbox.begin_watch(request, name))
            return wire.WatchGroup(request, name)

        return runtime.request(make, lambda request, pids: (list(pids), request))

    @staticmethod
    def unwatch(ref: int) -> Any:
        """End the watch with this ref; nothing happens if there is none. No change of it is received when this has returned,
        not even one that was waiting. Returns None. Raises Invalid."""
        if type(ref) is not int or not 0 < ref < 1 << 63:
            raise Invalid(f"expected a ref that groups.watch returned, got {ref!r:.80}")
        runtime = current()
        return runtime.request(
            lambda request: wire.UnwatchGroup(request, ref), nothing, lambda: runtime.mailbox.end_watch(ref)
        )


def _check(runtime: Runtime, group: str, pid: str | None) -> tuple[str, Pid]:
    return check_name(group), runtime.pid if pid is None else outgoing.check_pid(pid)


def _value(request: int, value: Any) -> Any:
    return value


def _members(runtime: Runtime, name: str) -> Any:
    return runtime.request(lambda request: wire.ListMembers(request, name), lambda request, pids: list(pids))


async def _broadcast_async(runtime: Runtime, name: str, topic: str, payload: Any) -> None:
    await _send(runtime, await _members(runtime, name), topic, payload)


def _send(runtime: Runtime, members: list[Pid], topic: str, payload: Any) -> Any:
    destinations = outgoing.Destinations(tuple(members), (), several=True)
    return send_to_pids(runtime, destinations, destinations.pids, topic, payload)
