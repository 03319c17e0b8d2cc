"""Runs the checks whose name has one of the words, or all. Exits with 1 if one fails."""

from __future__ import annotations

import platform
import sys

from service_checks.asking import run
from service_checks.running import run_checks

from .checks import CHECKS


def main(words: list[str]) -> int:
    systemd = run("systemctl", "--version").split()[1]
    print(f"# Linux {platform.release()}, systemd {systemd}, Python {platform.python_version()}", flush=True)
    return run_checks(CHECKS, words, CHECKS[:1])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
