"""The checker: from the journals of a run to what is wrong with it.

    entries = journal.read(folder)          # after quiescence
    for violation in check(entries):
        print(violation)
    print(tell(story(entries, pid)))

One pure function for each of the fifteen invariants of SEMANTICS.md. They know nothing of the runtime's code: they make a
model of their own from what was asked and what died. *Quiescence* means: everything that was started has ended, and everything
that the test has stopped runs again. A handler that waits for mail has read all that came to it, and is held to that; of
another one, only what it did read is judged. A fault that kills the supervisor is to be noted with `supervisor` in its name;
then nothing is expected of what it had no time to write.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from ..entry import Entry
from .endings import close_codes_are_true, nothing_is_left, terminate_ends
from .naming import names_are_unique, numbers_are_not_reused, the_dead_are_not_found
from .relations import links_propagate, monitors_fire_once, observers_agree
from .resources import all_comes_back, disturbance_is_bounded
from .streams import brackets_are_whole, exit_is_a_barrier, pairs_are_in_order, streams_are_partitioned
from .world import Limits, Violation, World

__all__ = ["INVARIANTS", "Limits", "Violation", "World", "check", "story", "tell"]

INVARIANTS: Final[dict[int, Callable[[World], list[Violation]]]] = {
    1: monitors_fire_once,
    2: observers_agree,
    3: pairs_are_in_order,
    4: exit_is_a_barrier,
    5: links_propagate,
    6: the_dead_are_not_found,
    7: names_are_unique,
    8: numbers_are_not_reused,
    9: terminate_ends,
    10: nothing_is_left,
    11: disturbance_is_bounded,
    12: brackets_are_whole,
    13: streams_are_partitioned,
    14: close_codes_are_true,
    15: all_comes_back,
}
"""Each invariant's function; its docstring is the invariant."""


def check(entries: Iterable[Entry], limits: Limits = Limits()) -> list[Violation]:  # noqa: B008  # it is immutable
    """Return every violation of every invariant, in their order."""
    world = World(entries, limits)
    return [violation for invariant in INVARIANTS.values() for violation in invariant(world)]


def story(entries: Iterable[Entry], pid: str) -> list[Entry]:
    """All that the journals say about a PID, in order."""
    return [entry for entry in entries if any(_names(field, pid) for field in entry.record)]


def _names(field: object, pid: str) -> bool:
    return field == pid or (isinstance(field, tuple) and pid in field)


def tell(entries: Iterable[Entry]) -> str:
    """A story as text, a line for each record."""
    return "\n".join(map(str, entries))
