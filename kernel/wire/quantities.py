"""Quantities as people write them: durations (`200ms`, `30s`, `1m30s`, `2h`), sizes (`4096`, `64KiB`, `1MiB`, `1GiB`), and sets of
processors (`0-3,8`)."""

from __future__ import annotations

import re
from collections.abc import Collection

_DURATION = re.compile(
    r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?", re.ASCII
)
_DURATION_UNITS = (3600.0, 60.0, 1.0, 0.001)
_SIZE = re.compile(r"(\d+)(KiB|MiB|GiB|B)?", re.ASCII)
_PROCESSORS = re.compile(r"(0|[1-9][0-9]{0,3})(?:-(0|[1-9][0-9]{0,3}))?", re.ASCII)
_SEPARATOR = re.compile(r" *, *| +")
_SIZE_UNITS = {None: 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}

MAX_DURATION = 366 * 86400.0
"""Seconds. A longer duration is a mistake, and would overflow a timer."""

MAX_SIZE = 1 << 50
"""Bytes. A larger size is a mistake."""

MAX_PROCESSOR = 8191
"""The highest number that a processor of Linux can have (CONFIG_NR_CPUS)."""


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


def parse_processors(value: object) -> frozenset[int]:
    """Return the processors that a list as of cpuset(7) names, with commas or spaces between: `0-3,8`; or a single number.

    Raises ValueError when the value is no such list, is empty, has a range that runs backwards, or goes beyond `MAX_PROCESSOR`.
    """
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    found: set[int] = set()
    for part in _SEPARATOR.split(text.strip(" ")) if isinstance(text, str) else [""]:
        match = _PROCESSORS.fullmatch(part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if not first <= last <= MAX_PROCESSOR:
            raise ValueError(f"expected processors from 0 to {MAX_PROCESSOR} such as 1 or 0-3,8, got {value!r:.80}")
        found.update(range(first, last + 1))
    return frozenset(found)


def processors_text(processors: Collection[int]) -> str:
    """Return the shortest list of these processors that `parse_processors` reads, empty for none."""
    parts = []
    for first in sorted(set(processors)):
        if first - 1 not in processors:
            last = first
            while last + 1 in processors:
                last += 1
            parts.append(f"{first}" if first == last else f"{first}-{last}")
    return ",".join(parts)
