"""Touches all free memory before anything is measured: `python -m benchmark.memory BYTES_SPARED`.

A hypervisor may take back what its guest does not use (free page reporting), and then the first touch of a page costs several times as much:
10 µs instead of 1.4 where docs/performance was measured. Who is measured first pays that, and who moves most bytes through the kernel pays
most. A program of its own does it, which the operating system is told to end first if memory runs out.
"""

from __future__ import annotations

import mmap
import subprocess
import sys
import time
from pathlib import Path

import psutil

from .report.text import progress

SPARED = 1 << 30
"""Bytes that are left alone."""
PIECE = 64 << 20
"""Bytes between two looks at what is still free."""
TIMEOUT = 300.0


def touch(spared: int = SPARED) -> str:
    """Touch what is free but for `spared` bytes, and return what was done, for people."""
    progress("touching free memory")
    before = time.monotonic()
    command = [sys.executable, "-m", "benchmark.memory", f"{spared}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    if done.returncode:
        return f"not touched (exit status {done.returncode})"
    return f"{int(done.stdout) / (1 << 30):.1f} GiB touched in {time.monotonic() - before:.0f} s"


def touch_here(spared: int) -> int:
    """Touch what is free, in this process, which is not to live on. Returns how many bytes that was."""
    Path("/proc/self/oom_score_adj").write_text("1000")
    kept: list[mmap.mmap] = []
    while psutil.virtual_memory().free > spared + PIECE:
        piece = mmap.mmap(-1, PIECE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        piece.madvise(mmap.MADV_NOHUGEPAGE)
        piece[:: mmap.PAGESIZE] = b"\1" * (PIECE // mmap.PAGESIZE)
        kept.append(piece)
    return len(kept) * PIECE


if __name__ == "__main__":
    print(touch_here(int(sys.argv[1])))
