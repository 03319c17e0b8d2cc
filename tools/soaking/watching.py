"""What is seen beside the fifteen invariants: how soon a fault shows, whether its reason is the right one, and a bystander."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from typing import Final

from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException
from wsrelay.kernel.wire import journal_records as j
from wsrelay.tools.faults.entry import Entry
from wsrelay.tools.faults.journal import Book
from wsrelay.tools.faults.kinds import Fault as Kind
from wsrelay.tools.faults.kinds import Garbage, parse

from .session import Fault

_NOTE: Final = "fault "
_NO_FAULT: Final = "no fault"
_PAUSE: Final = 0.05
MISSED: Final = "missed: "
"""Before a fault that has hit nobody: the process was gone."""


def endings(entries: Sequence[Entry], complaints: list[str]) -> list[Fault]:
    """The faults that hit a process: each with the time to its death, if it ends by it. A wrong reason is a complaint."""
    deaths = {entry.record[0]: entry for entry in entries if isinstance(entry.record, j.Died)}
    born = {record.os_pid: record.pid for entry in entries if isinstance(record := entry.record, j.Born)}
    gateway_lost = any(isinstance(entry.record, j.GatewayLost) for entry in entries)
    ended = any(isinstance(entry.record, j.FaultInjected) and "Supervisor" in entry.record.fault for entry in entries)
    no_fault = {
        entry.record[0] for entry in entries if isinstance(entry.record, j.Note) and entry.record.what == _NO_FAULT
    }
    found = []
    hit: set[str] = set()
    missed = _missed(entries, born)
    otherwise = _ended_otherwise([entry for entry in entries if entry not in missed], born)
    for entry in entries:
        if entry in missed:
            continue
        match entry.record:
            case j.Note(pid=pid, what=what) if what.startswith(_NOTE):
                fault = parse(what.removeprefix(_NOTE))
            case j.FaultInjected(fault=text, os_pid=os_pid) if text.startswith(("Signal(", "Stop(")):
                fault, pid = parse(text), born.get(os_pid, "")
            case _:
                continue
        if (
            not pid or pid in no_fault or (gateway_lost and fault == Garbage("data"))
        ):  # nobody may have been there to read it
            continue
        death = deaths.get(pid)
        seconds = death.time - entry.time if death is not None and fault.outcome.ends else None
        found.append(Fault(_name(fault), max(0.0, seconds) if seconds is not None else None, pid))
        true = death is not None and (death.record[1] in fault.outcome.reasons or death.record[2])
        unseen = death is None and ended  # nobody was left to see it
        if fault.outcome.ends and not true and not unseen and pid not in hit | otherwise:
            end = death.record if death is not None else "nothing"
            complaints.append(f"{pid}: {fault!r} leads to {fault.outcome.reasons}, not {end}")
        hit.add(pid)
    return found


def _missed(entries: Sequence[Entry], born: dict[int, str]) -> set[Entry]:
    """The signals that hit nobody: there was no such process any more, or it was the old code of one that was being upgraded,
    which had done its part (S35). The process itself lives on."""
    gone: set[int] = set()
    reborn: set[str] = set()
    found = set()
    for entry in reversed(entries):
        match entry.record:
            case j.FaultInjected(fault=fault, os_pid=os_pid) if fault.startswith(MISSED):
                gone.add(os_pid)
            case j.FaultInjected(os_pid=os_pid) if os_pid in gone or born.get(os_pid) in reborn:
                found.add(entry)
            case j.Born(pid=pid, os_pid=os_pid):
                gone.discard(os_pid)
                reborn.add(pid)
    return found


def _name(fault: Kind) -> str:
    """The fault's row in the table."""
    return type(fault).__name__ + (", for ever" if fault.outcome.hangs else "")


def _ended_otherwise(entries: Sequence[Entry], born: dict[int, str]) -> set[str]:
    """PIDs that something else may have ended before a fault could: then another reason is as true."""
    found = set()
    for entry in entries:
        match entry.record:
            case j.TerminateAsked(pid=pid) | j.CancelAsked(pid=pid):
                found.add(pid)
            case j.FaultInjected(os_pid=os_pid) if os_pid in born:
                found.add(born[os_pid])
    return found


class Bystander:
    """A client that nobody disturbs: it asks, and notes how long the answer took; and what the runtime's own parts have of
    memory meanwhile (invariant 11)."""

    def __init__(self, book: Book, url: str, measure_memory: Callable[[], None]) -> None:
        self._book = book
        self._measure_memory = measure_memory
        self.worst = 0.0
        """Seconds that an answer took at most."""
        self._asking = asyncio.create_task(self._ask(url))

    async def _ask(self, url: str) -> None:
        with contextlib.suppress(OSError, WebSocketException):
            async with connect(url, ping_interval=None, open_timeout=30.0) as line:
                for number in range(1_000_000):
                    begun = time.monotonic()
                    await line.send(str(number))
                    await line.recv()
                    latency = time.monotonic() - begun
                    self.worst = max(self.worst, latency)
                    self._book.sample("latency", "bystander", "disturbed", latency)
                    self._measure_memory()
                    await asyncio.sleep(_PAUSE)

    async def close(self) -> None:
        """Ask no more."""
        self._asking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._asking
