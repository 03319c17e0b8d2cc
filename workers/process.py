"""What a handler imports to be a process among others: send, spawn, monitor, link, receive.

    from wsrelay.workers import process

    def room():
        for message in process.inbox():
            process.send(message.sender, "echo", message.payload)

In an `async def` handler the same calls are awaited (`await process.monitor(pid)`, `async for message in process.inbox()`); in
a plain one they block and return the value itself. A signature cannot say both, so it says `Any`, and the docstring says what
comes. `send`, `cancel` and `terminate` have happened when they return, in both: awaiting them waits until the socket has taken
what it could not take at once. (Except for a `send` to a name in an `async def` handler: it must be awaited, to be resolved.)

Only the handler's own thread may call this module, except for `pid`, `trace` and `send` to PIDs, which any thread may. Signal
handlers may call it too. A forked child has no part in it: every call raises ChannelLost there (S11).

Timeouts and durations are seconds, or strings such as `200ms`, `30s`, `1m30s`. Arguments, payloads and returned values are what
msgpack carries: None, bool, int, float, str, bytes, list, tuple (arrives as a list) and dict. What cannot be carried raises
Invalid, which names the type and its place. Every error is a ProcessError. A wait that an exception or a cancelled task cuts
short has no effect on what was asked: a `spawn` given up may still have spawned.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Any

from ..kernel.wire import messages as _wire
from ..kernel.wire.errors import (
    AlreadyExists,
    ChannelLost,
    Invalid,
    LimitExceeded,
    NoProc,
    NotFound,
    NotPermitted,
    ProcessError,
    Timeout,
)
from ..kernel.wire.pid import Pid, check_name
from .core import outgoing as _outgoing
from .core.items import Cancel, Event, Exit, ExitError, GroupJoined, GroupLeft, LinkDown, Message, Reason
from .core.outgoing import Frames
from .core.packing import pack
from .core.streams import Stream, Topic
from .core.unread import Removal
from .shell import sending as _sending
from .shell import tracing as _tracing
from .shell import upgrading as _upgrading
from .shell.current import current
from .shell.executions import execute
from .shell.groups import Groups
from .shell.receiving import Receiver, receive_from
from .shell.registry import Registry

__all__ = [
    "AlreadyExists",
    "Cancel",
    "ChannelLost",
    "Exit",
    "ExitError",
    "GroupJoined",
    "GroupLeft",
    "Invalid",
    "LimitExceeded",
    "LinkDown",
    "Message",
    "NoProc",
    "NotFound",
    "NotPermitted",
    "Pid",
    "ProcessError",
    "Reason",
    "Timeout",
    "cancel",
    "events",
    "exec",
    "groups",
    "inbox",
    "link",
    "listen",
    "monitor",
    "pid",
    "receive",
    "registry",
    "send",
    "set_options",
    "spawn",
    "spawn_linked",
    "spawn_linked_monitored",
    "spawn_monitored",
    "terminate",
    "trace",
    "unlink",
    "unlisten",
    "unmonitor",
    "upgrade",
]


def pid() -> Pid:
    """Return this process's own PID. Never awaited."""
    return current().pid


# --- sending ----------------------------------------------------------------------------------------------------------


def send(destination: str | Iterable[str], topic: str, payload: Any = None) -> Any:
    """Send a message to a PID, to a registered name, or to several of them (S6). Returns None.

    When it returns, or has been awaited, the bytes have left this process (S7), unless sends are coalesced (`set_options`);
    that is no promise of delivery. To a WebSocket connection, `ws.send {type, data}`, `ws.close {code, reason}` and
    `ws.control {target_pid, message_topic, metadata, heartbeat_interval}` are commands; any other topic reaches the client as
    the JSON text `{"topic", "data"}` (S52). A destination that has ended is skipped.

    Raises NotFound for an unknown name, and for a single PID whose end this process has received (S8; the latest 65,536
    are remembered); Invalid for a malformed PID, a reserved topic (S9) or a payload that the destination cannot carry;
    LimitExceeded for a message over 17 MiB.
    """
    runtime = current()
    topic = _outgoing.check_topic_text(topic) if type(topic) is str else _outgoing.check_topic(topic)
    if type(destination) is Pid:
        return _sending.send_to_pid(runtime, destination, topic, payload)
    destinations = _outgoing.read_destinations(destination)
    if not destinations.names:
        return _sending.send_to_pids(runtime, destinations, destinations.pids, topic, payload)
    runtime.require_handler_thread()
    if runtime.port is not None:
        return _sending.send_to_names_async(runtime, destinations, topic, payload)
    found = tuple(_sending.lookup(runtime, name) for name in destinations.names)
    return _sending.send_to_pids(
        runtime, destinations, destinations.pids + _sending.known(destinations, found), topic, payload
    )


def cancel(pid: str, grace: float | str | None = None) -> Any:
    """Ask a process to end (S29): it receives a Cancel. Returns None. A connection is closed with 1001.

    With `grace` it is killed if it is still alive after that time. Raises Invalid.
    """
    runtime = current()
    runtime.require_handler_thread()
    data = runtime.data
    limit = None if grace is None else _outgoing.milliseconds(grace, "grace")
    frames = _outgoing.compose_cancel(_outgoing.check_pid(pid), limit, 0 if data is None else data.gateway)
    return runtime.post(frames, data)


def terminate(pid: str) -> Any:
    """Kill a process, whatever it does (S30). Returns None, at once. A connection is closed with 1011. Raises Invalid."""
    runtime = current()
    runtime.require_handler_thread()
    data = runtime.data
    frames = _outgoing.compose_terminate(_outgoing.check_pid(pid), 0 if data is None else data.gateway)
    return _sending.terminate(runtime, frames)


# --- spawning ---------------------------------------------------------------------------------------------------------


def spawn(entry: str, host: str, *args: Any, name: str | None = None) -> Any:
    """Start the `process.python` entry on the `process.host`, both by id, with these arguments (S3). Returns its Pid.

    With `name` it has that name before it can run (S5). Messages sent to it at once are queued until it runs. A failure of
    its own, of its import too, is its exit. Raises NotFound for an unknown entry or host, LimitExceeded for a full host,
    AlreadyExists for a taken name, whose `pid` is the holder (None if it is kept for a service that does not run), and
    then nothing is spawned; Invalid for arguments that cannot be carried.
    """
    return _spawn(entry, host, args, name, link=False, monitor=False)


def spawn_monitored(entry: str, host: str, *args: Any, name: str | None = None) -> Any:
    """`spawn` and `monitor` in one step: not even an early death is missed (S4). Returns `(Pid, ref)`."""
    return _spawn(entry, host, args, name, link=False, monitor=True)


def spawn_linked(entry: str, host: str, *args: Any, name: str | None = None) -> Any:
    """`spawn` and `link` in one step (S4). Returns its Pid."""
    return _spawn(entry, host, args, name, link=True, monitor=False)


def spawn_linked_monitored(entry: str, host: str, *args: Any, name: str | None = None) -> Any:
    """`spawn`, `link` and `monitor` in one step (S4). Returns `(Pid, ref)`."""
    return _spawn(entry, host, args, name, link=True, monitor=True)


def _spawn(entry: str, host: str, args: tuple[Any, ...], name: str | None, *, link: bool, monitor: bool) -> Any:
    runtime = current()
    _outgoing.check_ids(entry, host)
    packed = pack(args, "args")

    def make(request: int) -> tuple[Any, ...]:
        if name is None:
            return _wire.Spawn(request, entry, host, packed, link, monitor)
        return _wire.SpawnNamed(request, entry, host, packed, link, monitor, name)

    def finish(request: int, value: Any) -> Pid | tuple[Pid, int]:
        child = Pid(value)
        return (child, request) if monitor else child

    if name is not None:
        name = check_name(name)
    return runtime.request(make, finish)


def exec(entry: str, host: str, *args: Any, timeout: float | str | None = None) -> Any:
    """Run a `process.python` entry to its end, and return what its handler returns (S34).

    It is a process of its own, and its EXIT never shows among the events. Raises ExitError, whose `reason` says why, when
    it ends in any other way than by returning (after a CANCEL too); Timeout when `timeout` runs out first, and then it is
    killed; and what `spawn` raises. It is also killed when this process ends, or stops waiting (a cancelled task, an
    exception of a signal handler).
    """
    runtime = current()
    _outgoing.check_ids(entry, host)
    packed = pack(args, "args")
    limit = None if timeout is None else _outgoing.milliseconds(timeout, "timeout")
    return execute(runtime, lambda request: _wire.Execute(request, entry, host, packed, limit))


def upgrade(entry: str | None = None, *args: Any) -> Any:
    """Replace the running code of this process by a `process.python` entry, by default the one that it runs, called with
    these arguments (S35). Does not return: the new code runs in a new OS process, under the same PID.

    Everybody else notices nothing: names, groups, watches, links, monitors in both directions, options and attached connections
    stay; what is unread is there in its order, and what comes meanwhile follows. Refs stay valid. What only this code has is
    gone: like `os.execv`, it runs no `finally` and no `atexit` callback; threads and child processes are killed, and so is
    what it waits for with `exec`. It may have received what it has not yet answered: hand that on in the arguments.

    Raises NotFound for an unknown entry, NotPermitted in an HTTP handler, LimitExceeded without the descriptors that it needs or
    for arguments over 16 MiB, Invalid; then this code goes on. Any failure later is this process's exit. One that was given up
    (a cancelled task, an exception of a signal handler) may still be made.
    """
    runtime = current()
    runtime.require_handler_thread()
    runtime.require_no_reading()
    if entry is not None:
        _outgoing.check_id("entry", entry)
    packed = pack(args, "args")
    _upgrading.check_room()
    _tracing.flush()
    return runtime.request(lambda request: _wire.Upgrade(request, entry, packed), _sending.nothing)


# --- monitors and links -----------------------------------------------------------------------------------------------


def monitor(pid: str) -> Any:
    """Have an Exit arrive among the events when the process ends, or if it already has (S19, S20). Returns a ref, an int.

    Each call makes a monitor of its own. Raises Invalid.
    """
    watched = _outgoing.check_pid(pid)
    return current().request(lambda request: _wire.Monitor(request, watched), lambda request, value: request)


def unmonitor(ref_or_pid: int | str, flush: bool = False) -> Any:
    """Remove the monitor with this ref, or all of this process's monitors of this PID (S19). Returns None.

    From then on no Exit of it is queued; one that was queued before stays, unless `flush` (S21). Raises Invalid.
    """
    flushes = bool(_outgoing.check_flag("flush", flush))
    if isinstance(ref_or_pid, int) and not isinstance(ref_or_pid, bool):
        ref = ref_or_pid
        if not 0 < ref < 1 << 63:
            raise Invalid(f"expected a ref that monitor returned, got {ref}")
        return _remove(Removal(_wire.Exit, ref), lambda request: _wire.Unmonitor(request, ref), flush=flushes)
    watched = _outgoing.check_pid(ref_or_pid)
    return _remove(Removal(_wire.Exit, watched), lambda request: _wire.UnmonitorAll(request, watched), flush=flushes)


def link(pid: str) -> Any:
    """Link this process and another: if one ends abnormally, so does the other, unless it traps links (S23, S25).
    Returns None.

    Raises Invalid, and NoProc if the other has already ended and this process does not trap links; one that does
    receives a LinkDown instead (S24).
    """
    peer = _outgoing.check_pid(pid)
    return current().request(lambda request: _wire.Link(request, peer), _sending.nothing)


def unlink(pid: str) -> Any:
    """Remove the link with another process. From then on it has no effect, save for a LinkDown already queued (S27).
    Returns None. Raises Invalid."""
    peer = _outgoing.check_pid(pid)
    return _remove(Removal(_wire.LinkDown, peer), lambda request: _wire.Unlink(request, peer), flush=False)


def _remove(removal: Removal, make: Any, *, flush: bool) -> Any:
    """Ask for a removal; what it removes is dropped from the moment it is asked for to the answer."""
    runtime = current()
    runtime.require_handler_thread()

    def asked(request: int) -> tuple[Any, ...]:
        record: tuple[Any, ...] = make(request)
        runtime.change_mailbox(lambda mailbox: mailbox.begin_removal(removal))
        return record

    def settle() -> None:
        runtime.mailbox.end_removal(removal, flush=flush)

    return runtime.request(asked, _sending.nothing, settle)


def set_options(*, trap_links: bool | None = None, coalesce_sends: bool | None = None) -> Any:
    """Change what is given, and leave the other as it is. Returns None.

    With `trap_links`, the abnormal end of a linked process arrives as a LinkDown and does not kill this one (S25). It holds
    for every end after it returns (S28).

    With `coalesce_sends`, `send` may keep a message and write it together with others (S7): at the latest when this process
    has used up the mail at hand and receives more, asks anything else of this module, returns, raises or exits. While it blocks
    anywhere else (it sleeps, reads a file, computes), a thread writes what is kept, after about 10 ms; but only once Python lets
    that thread run, so that code in C which keeps the GIL keeps the messages too. What is kept is lost if the process is killed,
    or crashes. It holds when it returns or, in an async handler, at the call.

    Raises Invalid for what is neither True, False nor None; then nothing is changed.
    """
    runtime = current()
    wanted = _outgoing.check_flag("trap_links", trap_links)
    coalescing = _outgoing.check_flag("coalesce_sends", coalesce_sends)
    if coalescing is not None:
        runtime.require_handler_thread()
        runtime.outbox.set_coalescing(coalescing)
    if wanted is None:
        return runtime.post(Frames(), None)
    return runtime.request(lambda request: _wire.SetOptions(request, wanted), _sending.nothing)


# --- receiving --------------------------------------------------------------------------------------------------------


def receive(timeout: float | str | None = None) -> Any:
    """Return the next Message or event, in the order in which they arrived.

    Blocks until there is one; raises Timeout when `timeout` runs out before. 0 looks only at what is already there.
    """
    return receive_from(Stream.BOTH, timeout)


_inbox: Receiver[Message] = Receiver(Stream.INBOX)
_events: Receiver[Event] = Receiver(Stream.EVENTS)


def inbox() -> Receiver[Message]:
    """Return the mail of this process: an endless iterable of Message, with `receive(timeout=None)`."""
    return _inbox


def events() -> Receiver[Event]:
    """Return the events of this process: an endless iterable with `receive(timeout=None)`.

    They are Exit, LinkDown, Cancel, GroupJoined and GroupLeft.
    """
    return _events


def listen(topic: str) -> Receiver[Message]:
    """Return the mail of this topic, like `inbox`; it does not come there any more, nor to `receive`. Never awaited.

    What of the topic is unread already is there, in its order. Every topic can be listened to, those of connections too
    (`ws.message`, `ws.join`, …). Listening to a topic again returns the same mail once more: nothing is doubled. What is unread
    counts as before, whoever is to take it: mail that nobody takes holds up what comes behind it (S10). Raises Invalid.
    """
    runtime = current()
    runtime.require_handler_thread()
    name = _outgoing.check_listened_topic(topic)
    runtime.change_mailbox(lambda mailbox: mailbox.listen(name))
    return Receiver(Topic(name))


def unlisten(topic: str) -> None:
    """Listen to this topic no more: what is unread of it is in the inbox again, in the order of arrival, and so is what comes.
    Its receivers end. Nothing happens if it is not listened to. Never awaited. Raises Invalid.
    """
    runtime = current()
    runtime.require_handler_thread()
    name = _outgoing.check_listened_topic(topic)
    runtime.change_mailbox(lambda mailbox: mailbox.unlisten(name))


# --- tracing ----------------------------------------------------------------------------------------------------------


def trace(message: Message) -> AbstractContextManager[None]:
    """Return a context manager that makes an OpenTelemetry span of what is done in it with a message of a connection: short,
    the current span meanwhile, and linked to the span of the connection's handshake. Never awaited; `with` in async handlers too.

    It does nothing for a message of anybody else, and for a connection without such a span: its `http.service` is not traced,
    or the sampling has left it out. An exception that leaves the block makes the span one of an error. In the span are the topic
    and PIDs, and nothing of the message's content. What is not exported when the process is killed is lost. Raises Invalid.
    """
    return _tracing.trace(current(), message)


# --- names ------------------------------------------------------------------------------------------------------------


registry = Registry()


groups = Groups()
