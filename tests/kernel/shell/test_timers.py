"""The timers of the process table on a real event loop."""

from __future__ import annotations

import asyncio

from wsrelay.kernel.core.effects import (
    ExecutionOverdue,
    GraceExpired,
    PoolRefill,
    ProbeDue,
    ProcessEnded,
    RestartDue,
    ServiceChanged,
    SetTimer,
    Timer,
)
from wsrelay.kernel.core.service_states import State
from wsrelay.kernel.shell.timers import Timers
from wsrelay.kernel.wire.pid import Pid
from wsrelay.kernel.wire.reason import NORMAL, make_reason

FAR = 3600.0


async def fired(set_up: list[tuple[float, Timer]], wanted: int) -> tuple[list[Timer], int]:
    """Set these timers, each so many seconds from now; return those that fired, once `wanted` have, and how many are left."""
    loop, all_there = asyncio.get_running_loop(), asyncio.Event()
    told: list[Timer] = []

    def fire(event: Timer, now: float) -> None:
        told.append(event)
        if len(told) == wanted:
            all_there.set()

    timers = Timers(loop, fire)
    for delay, event in set_up:
        timers.set(SetTimer(loop.time() + delay, event))
    await asyncio.wait_for(all_there.wait(), 10)
    left = timers.pending()
    for subject in {event[0] for _, event in set_up}:
        timers.process_ended(ProcessEnded(Pid(str(subject)), "app:entry", make_reason(NORMAL)))
    return told, left


def test_timers_of_several_kinds_for_one_process_are_several() -> None:
    # S29, S34: a long grace does not take the caller's timeout away, nor the other way round
    overdue, grace = ExecutionOverdue("pid"), GraceExpired("pid")
    for first, second in ((overdue, grace), (grace, overdue)):
        told, left = asyncio.run(fired([(0.0, first), (FAR, second)], 1))
        assert [type(event) for event in told] == [type(first)]
        assert left == 1


def test_set_again_it_moves() -> None:
    told, left = asyncio.run(fired([(FAR, GraceExpired("pid")), (0.0, GraceExpired("pid"))], 1))
    assert (told, left) == ([GraceExpired("pid")], 0)


def test_nothing_is_left_of_what_has_ended() -> None:
    async def end() -> list[int]:
        loop = asyncio.get_running_loop()
        timers = Timers(loop, lambda event, now: None)
        for event in (
            ExecutionOverdue("pid"),
            GraceExpired("pid"),
            ProbeDue(1),
            RestartDue("app:a"),
            PoolRefill("app:a"),
        ):
            timers.set(SetTimer(loop.time() + FAR, event))
        counts = [timers.pending()]
        timers.process_ended(ProcessEnded(Pid("pid"), "app:entry", make_reason(NORMAL)))
        counts.append(timers.pending())
        timers.worker_ended(1)
        counts.append(timers.pending())
        timers.service_changed(ServiceChanged("app:a", State.STARTING, ""))
        counts.append(timers.pending())
        timers.process_ended(ProcessEnded(Pid("app:a"), "", make_reason(NORMAL)))
        return counts

    assert asyncio.run(end()) == [5, 3, 2, 1]
