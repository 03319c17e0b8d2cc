"""Runs the checks whose name has one of the words, or all. Exits with 1 if one fails."""

from __future__ import annotations

import sys

from .checks import CHECKS
from .load import restart_under_load
from .running import run_checks


def main(words: list[str]) -> int:
    load_too = [restart_under_load] if words and any(word in "restart under load" for word in words) else []
    return run_checks([*CHECKS[:-1], *load_too, CHECKS[-1]], words, CHECKS[:3])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
