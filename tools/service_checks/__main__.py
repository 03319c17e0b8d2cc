"""Runs the checks whose name has one of the words, or all. Exits with 1 if one fails."""

from __future__ import annotations

import sys
import time
import traceback

from .asking import run
from .checks import CHECKS
from .load import restart_under_load


def main(words: list[str]) -> int:
    failed = 0
    load_too = [restart_under_load] if words and any(word in "restart under load" for word in words) else []
    for each in [*CHECKS[:-1], *load_too, CHECKS[-1]]:
        name = each.__name__.replace("_", " ")
        needed = each in CHECKS[:3]
        if words and not needed and not any(word in name for word in words):
            continue
        began = time.monotonic()
        try:
            each()
        except Exception:
            failed += 1
            print(f"FAILED  {name}\n{traceback.format_exc()}", flush=True)
            print(run("journalctl", "--no-pager", "--lines", "40"), flush=True)
        else:
            print(f"ok      {name} ({time.monotonic() - began:.1f} s)", flush=True)
    print(f"{failed} failed" if failed else "all checks passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
