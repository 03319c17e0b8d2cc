"""Runs checks one after the other, and prints what became of each."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Collection, Sequence

from .asking import run

Check = Callable[[], None]


def run_checks(checks: Sequence[Check], words: Sequence[str], needed: Collection[Check]) -> int:
    """Run the checks whose name has one of the words, or all, and those that are needed for others: nothing comes after such a
    one that fails. Returns 1 if one fails."""
    failed = 0
    for each in checks:
        name = each.__name__.replace("_", " ")
        if words and each not in needed and not any(word in name for word in words):
            continue
        began = time.monotonic()
        try:
            each()
        except Exception:
            failed += 1
            print(f"FAILED  {name}\n{traceback.format_exc()}", flush=True)
            print(run("journalctl", "--no-pager", "--lines", "40"), flush=True)
            if each in needed:
                break
        else:
            print(f"ok      {name} ({time.monotonic() - began:.1f} s)", flush=True)
    print(f"{failed} failed" if failed else "all checks passed", flush=True)
    return 1 if failed else 0
