"""The kit's checker of the fifteen invariants: for each, a check that is left out."""

from __future__ import annotations

from ..model import Mutation

_FOLDER = "tools/faults/checker/"
_TESTS = (
    "tests/faults/test_checker.py",
    "tests/faults/test_checker_rejects.py",
    "tests/faults/test_checker_rejects_ends.py",
)


def _blind(number: int, file: str, old: str, new: str, to: str = "") -> Mutation:
    return Mutation(f"checker-blind-to-{to or number}", f"invariant {number}", f"{_FOLDER}{file}", old, new, _TESTS)


MUTATIONS = (
    _blind(1, "relations.py", "if due is None or due[0] != pid:", "if False:"),
    _blind(2, "relations.py", "elif kind != death.record[1]:", "elif False:"),
    _blind(3, "streams.py", "if item != expected[index][1]:", "if False:"),
    _blind(4, "streams.py", "            if key in ended:\n", "            if False:\n"),
    _blind(5, "relations.py", "if owed.pop((peer, pid), None) is None:", "if owed.pop((peer, pid), None) is False:"),
    _blind(
        6,
        "naming.py",
        "case j.LookedUp(name=name, pid=pid) if pid in dead:",
        "case j.LookedUp(name=name, pid=pid) if False:",
    ),
    _blind(7, "naming.py", "                if holder != pid:\n", "                if False:\n"),
    _blind(8, "naming.py", "        elif key not in children:\n", "        elif False:\n"),
    _blind(9, "endings.py", "if death is None and now - asked.time > bound:", "if False:"),
    _blind(
        10,
        "endings.py",
        "for entry, record in world.of(j.LeftBehind)]",
        "for entry, record in world.of(j.LeftBehind) if False]",
    ),
    _blind(11, "resources.py", "if bound is not None and sample.value > bound:", "if False:"),
    _blind(
        12,
        "streams.py",
        "if end is not None and target in world.attentive and not world.supervisor_killed:",
        "if False:",
    ),
    _blind(13, "streams.py", "        if item.number in seen:\n", "        if False:\n"),
    _blind(14, "endings.py", "if allowed is not None and sent.code not in allowed:", "if False:"),
    _blind(15, "resources.py", "if delay < least - world.limits.clock_slack:", "if False:"),
    _blind(
        3,
        "handing.py",
        "    if whole and len(taken) < len(readable):\n",
        "    if False:\n",
        "mail-that-is-not-handed-over",
    ),
    _blind(
        12, "leaving.py", "        if bracket is not None:\n", "        if False:\n", "an-open-bracket-of-the-gateway"
    ),
    _blind(
        12,
        "leaving.py",
        "    elif not left.reason and not _had_died(world, left.target, entry):\n",
        "    elif False:\n",
        "a-leave-that-is-not-written",
    ),
    _blind(
        3,
        "groups.py",
        "        if missing and watcher in world.attentive and",
        "        if False and",
        "unread-changes",
    ),
    _blind(
        6,
        "groups.py",
        "        elif whole and len(seen) < len(expected):\n",
        "        elif False:\n",
        "a-watcher-s-gap",
    ),
    _blind(12, "handing.py", "        if waiting[key] > 1:\n", "        if False:\n", "heartbeats"),
    _blind(
        5,
        "relations.py",
        "        if len(seen) > len(expected):\n",
        "        if False:\n",
        "a-link-down-that-nobody-told",
    ),
    _blind(2, "relations.py", "is_late = (observer, pid) in linked_late", "is_late = True", "noproc-for-an-early-peer"),
    _blind(15, "resources.py", 'if state == "failed" and stopping is None and', "if False and", "giving-up-too-soon"),
)
