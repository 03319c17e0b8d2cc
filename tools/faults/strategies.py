"""Hypothesis strategies for faults. The only module of the kit that imports Hypothesis.

Simple faults come first, so that what Hypothesis shows in the end is the simplest one that does it.
"""

from __future__ import annotations

from collections.abc import Collection

from hypothesis import strategies as st

from .kinds import (
    ALL,
    BusyLoop,
    ClientGarbage,
    ExitCode,
    Fault,
    ForkKeepsChannel,
    Garbage,
    HoldGIL,
    KillGateway,
    KillHost,
    KillSupervisor,
    MemoryHog,
    NeverReads,
    OsExit,
    Raise,
    ResetLine,
    Segfault,
    Signal,
    SlowClient,
    StackOverflow,
    Stop,
    TornFrame,
    Where,
)

CODES = st.integers(0, 255)
DEADLY_SIGNALS = st.sampled_from(["SIGKILL", "SIGSEGV", "SIGABRT", "SIGBUS", "SIGFPE", "SIGTERM"])
MOMENTS = st.sampled_from([0.01, 0.1, 0.3])
"""Seconds that a process does not answer."""
CHANNELS = st.sampled_from(["control", "data"])
GARBAGE = st.sampled_from(
    [b"\xc1", b"\x92\x02\x01", b"\x90", b"\x91\xce\xff\xff\xff\xff", b"\xdd\xff\xff\xff\xff", b"garbage" * 100]
)
"""What is no frame, and is known to be none when it has been read: no byte, an array of unknown fields, an empty one, an unknown
tag, an array without end, text. (Bytes that may be the beginning of a frame are waited for, see `TornFrame`.)"""

BY_KIND: dict[type[Fault], st.SearchStrategy[Fault]] = {
    Raise: st.just(Raise()),
    ExitCode: st.builds(ExitCode, CODES),
    OsExit: st.builds(OsExit, CODES),
    Signal: st.builds(Signal, DEADLY_SIGNALS),
    Segfault: st.just(Segfault()),
    StackOverflow: st.just(StackOverflow()),
    MemoryHog: st.just(MemoryHog()),
    BusyLoop: st.builds(BusyLoop, MOMENTS | st.none()),
    HoldGIL: st.builds(HoldGIL, MOMENTS | st.none()),
    Stop: st.builds(Stop, MOMENTS | st.none()),
    ForkKeepsChannel: st.just(ForkKeepsChannel()),
    Garbage: st.builds(Garbage, CHANNELS, GARBAGE),
    TornFrame: st.builds(TornFrame, CHANNELS),
    KillGateway: st.just(KillGateway()),
    KillHost: st.just(KillHost()),
    KillSupervisor: st.just(KillSupervisor()),
    ResetLine: st.builds(ResetLine, st.integers(0, 20)),
    ClientGarbage: st.just(ClientGarbage()),
    SlowClient: st.builds(SlowClient, st.integers(1, 20)),
    NeverReads: st.just(NeverReads()),
}


def faults(
    where: Where | None = None,
    *,
    ends: bool | None = None,
    hangs: bool | None = None,
    provided: Collection[str] = (),
    kinds: Collection[type[Fault]] = ALL,
) -> st.SearchStrategy[Fault]:
    """Any fault of these `kinds` that can be put in from `where`.

    `ends`: whether the process that was hit must end by it (True), or live on (False). `hangs`: whether it stays without an
    answer until it is killed. `provided` names what the host is configured with (`limits.memory`): faults that need something
    else are left out, because without the limit a memory hog takes the machine's.
    """
    chosen = [
        BY_KIND[kind]
        for kind in ALL
        if kind in kinds and (where is None or where in kind.places) and _met(kind, provided)
    ]
    return st.one_of(chosen).filter(
        lambda fault: (ends is None or fault.outcome.ends == ends) and (hangs is None or fault.outcome.hangs == hangs)
    )


def crashes() -> st.SearchStrategy[Fault]:
    """A fault inside a handler that ends it at once."""
    return faults(Where.INSIDE, ends=True)


def maybe(strategy: st.SearchStrategy[Fault]) -> st.SearchStrategy[Fault | None]:
    """No fault, or one; shrinks to none."""
    return st.none() | strategy


def _met(kind: type[Fault], provided: Collection[str]) -> bool:
    return not kind.needs or kind.needs in provided
