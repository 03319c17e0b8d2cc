"""Durations and sizes as people write them: `200ms`, `30s`, `1m30s`, `2h`; `4096`, `64KiB`, `1MiB`, `1GiB`."""

from __future__ import annotations

import re

_DURATION = re.compile(
    r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?", re.ASCII
)
_DURATION_UNITS = (3600.0, 60.0, 1.0, 0.001)
_SIZE = re.compile(r"(\d+)(KiB|MiB|GiB|B)?", re.ASCII)
_SIZE_UNITS = {None: 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}

MAX_DURATION = 366 * 86400.0
"""Seconds. A longer duration is a mistake, and would overflow a timer."""

MAX_SIZE = 1 << 50
"""Bytes. A larger size is a mistake."""


def parse_duration(value: object) -> float:
    """Return seconds. A string has units (`1m30s`); a bare number is seconds; `0` needs no unit.

    Raises ValueError when the text is no duration, is negative or is longer than `MAX_DURATION`.
    """
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise ValueError(f"expected a duration such as 200ms, 30s or 1m30s, got {value!r:.80}")
    if isinstance(value, str):
        if value == "0":
            return 0.0
        match = _DURATION.fullmatch(value)
        if match is None or not any(match.groups()):
            raise ValueError(f"expected a duration such as 200ms, 30s or 1m30s, got {value!r:.80}")
        seconds = sum(float(part) * unit for part, unit in zip(match.groups(), _DURATION_UNITS, strict=True) if part)
    else:
        seconds = float(value) if 0 <= value <= MAX_DURATION else -1.0  # an int may be too large for a float
    if not 0.0 <= seconds <= MAX_DURATION:
        raise ValueError(f"expected a duration between 0 and {MAX_DURATION:.0f}s, got {value!r:.80}")
    return seconds


def parse_size(value: object) -> int:
    """Return bytes. Raises ValueError when the value is no size (`4096`, `64KiB`, `1MiB`, `1GiB`), or over `MAX_SIZE`."""
    size = -1
    if isinstance(value, int) and not isinstance(value, bool):
        size = value
    elif isinstance(value, str) and len(value) < 32 and (match := _SIZE.fullmatch(value)):
        size = int(match[1]) * _SIZE_UNITS[match[2]]
    if not 0 <= size <= MAX_SIZE:
        raise ValueError(f"expected a size such as 4096, 64KiB or 1MiB, got {value!r:.80}")
    return size
