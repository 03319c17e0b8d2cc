"""What is written to standard error while pytest captures it, also by other processes.

`capfd.readouterr()` reads and then empties the file: a line that another process writes between the two is lost. So who waits for such a
line looks at the file and leaves it as it is.
"""

from __future__ import annotations

import os

_STANDARD_ERROR = 2


def captured_lines() -> str:
    """Every whole line so far. For tests with the fixture `capfd`, which makes standard error a file of the test's own."""
    written = os.pread(_STANDARD_ERROR, os.fstat(_STANDARD_ERROR).st_size, 0).decode(errors="replace")
    return written[: written.rfind("\n") + 1]
