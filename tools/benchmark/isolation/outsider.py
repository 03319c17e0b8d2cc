"""A program that forks processes and kills them, and knows nothing of the runtime: `python outsider.py FORKS_A_SECOND SECONDS`.

Thirty-two at a time, as many as a process of the application may have; they wait until they are killed.
"""

from __future__ import annotations

import os
import signal
import sys
import time

BATCH = 32
ORPHANED = 10
"""Seconds after which a child ends by itself."""


def main(rate: float, seconds: float) -> None:
    """Run for as long as that."""
    start, count = time.monotonic(), 0
    while time.monotonic() - start < seconds:
        children = []
        for _ in range(BATCH):
            child = os.fork()
            if not child:
                signal.alarm(ORPHANED)
                signal.pause()
            children.append(child)
        for child in children:
            os.kill(child, signal.SIGKILL)
        for child in children:
            os.waitpid(child, 0)
        count += BATCH
        time.sleep(max(0.0, start + count / rate - time.monotonic()))


if __name__ == "__main__":
    main(float(sys.argv[1]), float(sys.argv[2]))
