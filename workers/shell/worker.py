"""The main of a worker: from its birth to its exit.

A newborn closes what it inherited and waits for `Start`; until it has read that, it stays in the host's process group, where
the supervisor finds it. Then it runs its one handler, or invocation after invocation (S57), and reports how that ended. It
leaves by `os._exit` always: nothing of the host's that is still on its stack may run.

At a handler's end the `atexit` callbacks run and stdout and stderr are flushed; then the exit report is written, the last frame.
Threads that are not daemons are not waited for: a process ends when its handler does.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import inspect
import os
import signal
import socket
import sys
import threading
import time
from typing import Any, NoReturn

from ...kernel.wire import logs
from ...kernel.wire import messages as wire
from ...kernel.wire.configuration import HostConfiguration, HostLimits
from ...kernel.wire.journal import set_role
from ...kernel.wire.reason import CANCELLED, NORMAL, WireReason, make_reason
from ..core.exchange import Request, Response
from ..core.outgoing import Frames, frame
from ..core.packing import unpack
from . import invocation, rlimits, system
from .confinement import confine_worker
from .current import install
from .ending import Ending, ending_of_error, ending_of_value, flush_output
from .loader import load_entry
from .observation import WorkerRuntime
from .runtime import Runtime


def make_runtime(configuration: HostConfiguration) -> Runtime:
    """Return what all workers of a host begin with."""
    return WorkerRuntime(watched=configuration.limits.liveness is not None, coalescing=configuration.coalesce_sends)


def run_newborn(
    runtime: Runtime, control: int, expected_parent: int, configuration: HostConfiguration, number: int
) -> NoReturn:
    """Be a worker, right after the fork. `control` is the descriptor of its control channel, `number` its own."""
    limits = configuration.limits
    try:
        system.close_descriptors_except(control)
        start = first_steps(runtime, control, expected_parent, configuration, number)
        _leave_host(limits)
        introduce(runtime, start)
        if start.pid:
            rlimits.limit_cpu(limits.cpu, runtime.cpu_used)
            _run_actor(runtime, start)
        else:
            _run_function_worker(runtime, start.host, limits)
    except BaseException as error:  # the runtime's own failure: the supervisor has the exit code, people the traceback
        with contextlib.suppress(BaseException):
            sys.excepthook(type(error), error, error.__traceback__)
            flush_output()
    finally:
        os._exit(1)


def first_steps(
    runtime: Runtime, control: int, expected_parent: int, configuration: HostConfiguration, number: int
) -> wire.Start:
    """Do what has to be done before anything else, then wait for Start, and return it."""
    system.die_with_parent(expected_parent)
    system.adopt_orphans()
    confine_worker(configuration, number)
    set_role("worker")
    runtime.begin(socket.socket(fileno=control))
    while runtime.start is None:
        runtime.wait(with_data=False)
    return runtime.start


def introduce(runtime: Runtime, start: wire.Start) -> None:
    """Be what Start says: for what handlers call, and for what is logged."""
    install(runtime)
    logs.identify(pid=start.pid, entry=start.entry, host=start.host)


def _leave_host(limits: HostLimits) -> None:
    """Leave the host's group and session, and what else is shared with it."""
    os.setsid()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if (
        signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    ):  # the host's doing, which programs that a handler starts would inherit
        signal.signal(signal.SIGINT, signal.default_int_handler)
    rlimits.limit_open_files(limits.open_files)


# --- an actor ---------------------------------------------------------------------------------------------------------


def _run_actor(runtime: Runtime, start: wire.Start) -> NoReturn:
    try:
        value = call(runtime, start.source, start.method, unpack(start.arguments))
    except BaseException as error:
        ending = ending_of_error(error)
    else:
        ending = ending_of_value(value, cancelled=runtime.mailbox.cancel_received)
    _finish(runtime, ending)


def call(runtime: Runtime, source: str, method: str, arguments: list[Any]) -> Any:
    """Import and run the handler, `async def` or not."""
    handler = load_entry(source, method)
    try:
        result = handler(*arguments)
        if not inspect.iscoroutine(result):
            return result
        with asyncio.Runner() as runner:
            runtime.enter_loop(runner.get_loop())
            return runner.run(result)
    finally:
        runtime.leave_loop()


def _finish(runtime: Runtime, ending: Ending, target: str | None = None) -> NoReturn:
    """Run what is to run at exit, report, and exit. `target` is the one that an invocation answered with, or had named
    before it failed."""
    with contextlib.suppress(BaseException):
        atexit._run_exitfuncs()
    with contextlib.suppress(BaseException):  # a signal handler that raises: the end is decided
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    if ending.message:
        with contextlib.suppress(Exception):
            sys.stderr.write(f"{ending.message}\n")
    flush_output()
    if ending.report is None:
        runtime.flush()
    else:
        runtime.report(ending.report, target)
    os._exit(ending.code)


# --- a function worker ------------------------------------------------------------------------------------------------

_BUSY = 1.0
"""Seconds from an invocation to the next up to which a function worker is taken to be busy."""
_RETURNED = Ending(make_reason(NORMAL), 0)
_CANCELLED = Ending(make_reason(CANCELLED), 0)


def _run_function_worker(runtime: Runtime, host: str, limits: HostLimits) -> NoReturn:
    while True:
        invoke, request = _wait_for_invocation(runtime)
        rlimits.allow_cpu(limits.cpu)
        _run_invocation(runtime, host, invoke, request)
        rlimits.unlimit_cpu(limits.cpu)


def _wait_for_invocation(runtime: Runtime) -> tuple[wire.Invoke, wire.Request]:
    """Wait for the supervisor's word and the gateway's: they come on two channels, in any order."""
    busy_until = time.monotonic() + _BUSY
    while True:
        if both := runtime.assignment.match():
            return both
        mailbox = runtime.mailbox
        if lost := runtime.assignment.lost(mailbox.gateway, data_ended=mailbox.data_ended):
            _end_invocation(runtime, lost, make_reason(CANCELLED, "gateway_lost: its request never came"))
        else:
            _wait_for_request(runtime, busy_until)


def _wait_for_request(runtime: Runtime, busy_until: float) -> None:
    """Wait in an idle function worker. Invoke nearly always comes before its Request: it is read when that is there, so that the worker
    wakes up once for both. What else may come on control is for a process, which this is not now, or a new data channel, which
    comes when the old one has ended; but for the question for a sign of life (S17).

    Of a worker that is not busy control is read too: what is there of the mail of an invocation that has ended would stay in the
    supervisor's memory until the next."""
    assignment = runtime.assignment
    if not assignment.idle or runtime.data is None or runtime.watched or time.monotonic() >= busy_until:
        runtime.wait()
        return
    runtime.wait(busy_until, with_control=False)
    if assignment.request is not None:
        runtime.read_control()


def _run_invocation(runtime: Runtime, host: str, invoke: wire.Invoke, request: wire.Request) -> None:
    """Run one invocation. Returns if the process may serve another (S57)."""
    response = Response()
    invocation.begin(Request(request), response)
    logs.identify(pid=invoke.pid, entry=invoke.entry, host=host)
    try:
        call(runtime, invoke.source, invoke.method, [])
    except BaseException as error:
        ending = ending_of_error(error)
        if not ending.clean:
            _finish(runtime, ending, response.named_target)
        reusable = False
    else:
        ending = _CANCELLED if runtime.mailbox.cancel_received else _RETURNED
        reusable = not _left_something()
    finally:
        invocation.end()
    flush_output()
    if runtime.forked:  # a child of the handler's that came back: the response is its parent's
        _finish(runtime, ending)
    _respond(runtime, response.to_wire(invoke.pid))
    if not reusable or ending.report is None:
        _finish(runtime, ending, response.relay_target)
    _end_invocation(runtime, invoke, ending.report, response.relay_target)


def _end_invocation(runtime: Runtime, invoke: wire.Invoke, reason: WireReason, target: str | None = None) -> None:
    """The process is no more, and the worker is free for the next invocation."""
    runtime.end_invocation()
    runtime.post(Frames(control=frame(wire.InvocationEnded(invoke.pid, reason, target))), None)


def _respond(runtime: Runtime, response: wire.Response) -> None:
    """Answer on the channel that the request came on; its gateway may be gone."""
    data = runtime.data
    if data is not None and data.gateway == runtime.assignment.gateway:
        runtime.post(Frames(data=frame(response)), data)
        data.writer.finish()


def _left_something() -> bool:
    """Whether the handler left a thread or a child: its process ends with it then, and is not used again."""
    if threading.active_count() > 1:
        return True
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True
