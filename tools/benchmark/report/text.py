"""Tables, and what a figure needs beside it: machine, versions, commit."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import sys
from pathlib import Path


class Table:
    """Columns of text; the first is to the left, the others are to the right."""

    def __init__(self, head: list[str]) -> None:
        self._rows = [head]

    def add(self, *cells: str) -> None:
        """Append a row."""
        self._rows.append(list(cells))

    def __str__(self) -> str:
        widths = [max(len(row[column]) for row in self._rows) for column in range(len(self._rows[0]))]
        rows = [
            "  ".join(
                cell.ljust(width) if column == 0 else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in self._rows
        ]
        return "\n".join([rows[0], "-" * sum(widths, 2 * (len(widths) - 1)), *rows[1:]])


def spread(values: list[float]) -> str:
    """The range of some values."""
    return f"{min(values):,.0f} – {max(values):,.0f}"


def progress(text: str) -> None:
    """Say what is being measured, on a terminal."""
    if sys.stderr.isatty():
        print(f"\r{text:60}\r{text}", end="", file=sys.stderr, flush=True)


def conditions() -> dict[str, str]:
    """Where and with what the figures were made."""
    names = ("wsrelay", "uvicorn", "wsproto", "h11", "uvloop", "websockets", "msgpack")
    return {
        "machine": f"{_processor()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}",
        "load": " ".join(f"{load:.2f}" for load in os.getloadavg()),
        "python": platform.python_version(),
        "packages": ", ".join(f"{name} {version}" for name in names if (version := _version(name))),
        "commit": _commit(),
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return "unknown"
    return done.stdout.strip() or "unknown"
