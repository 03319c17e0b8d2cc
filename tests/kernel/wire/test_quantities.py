"""Durations, sizes and sets of processors against a model."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsrelay.kernel.wire.quantities import (
    MAX_DURATION,
    MAX_PROCESSOR,
    MAX_SIZE,
    parse_duration,
    parse_processors,
    parse_size,
    processors_text,
)

UNITS = (("h", 3600.0), ("m", 60.0), ("s", 1.0), ("ms", 0.001))
NUMBERS = st.none() | st.integers(0, 10_000).map(str) | st.decimals(0, 1000, places=3).map(str)


@given(st.tuples(NUMBERS, NUMBERS, NUMBERS, NUMBERS))
def test_durations_add_up(numbers: tuple[str | None, ...]) -> None:
    text = "".join(f"{number}{unit}" for number, (unit, _) in zip(numbers, UNITS, strict=True) if number is not None)
    seconds = sum(float(number) * unit for number, (_, unit) in zip(numbers, UNITS, strict=True) if number is not None)
    if not text or seconds > MAX_DURATION:
        with pytest.raises(ValueError, match="duration"):
            parse_duration(text)
    else:
        assert math.isclose(parse_duration(text), seconds, abs_tol=1e-9)


@given(st.floats() | st.integers())
def test_bare_numbers_are_seconds(value: float) -> None:
    if 0 <= value <= MAX_DURATION:
        parsed = parse_duration(value)
        assert parsed == value
        assert type(parsed) is float
    else:
        with pytest.raises(ValueError, match="duration"):
            parse_duration(value)


@pytest.mark.parametrize(
    "value",
    [
        "", " ", "5", "5 s", "s", "1s1m", "1ms1s", "1m1m", "-1s", "+1s", "1e3s", ".5s", "5.s", "1S", "1s\n", "٣s", "inf", "nan",
        "9" * 400 + "s", 10**400, -(10**400), 367 * 86400, math.nan, math.inf, True, False, None, b"1s", [1], "1d",
    ],
)  # fmt: skip
def test_what_is_no_duration(value: object) -> None:
    with pytest.raises(ValueError, match="duration"):
        parse_duration(value)


def test_durations_by_example() -> None:
    texts = ("0", "200ms", "30s", "1m30s", "2h", "1.5s", "1h1m1s1ms", 0, 2, 0.25)
    assert [parse_duration(text) for text in texts] == [0, 0.2, 30, 90, 7200, 1.5, 3661.001, 0, 2, 0.25]


@given(st.integers(0, 1 << 60), st.sampled_from((("", 0), ("B", 0), ("KiB", 10), ("MiB", 20), ("GiB", 30))))
def test_sizes_multiply(number: int, unit: tuple[str, int]) -> None:
    size = number << unit[1]
    if size <= MAX_SIZE:
        assert parse_size(f"{number}{unit[0]}") == size == parse_size(size)
    else:
        with pytest.raises(ValueError, match="size"):
            parse_size(f"{number}{unit[0]}")


@pytest.mark.parametrize(
    "value",
    [
        "",
        "B",
        "1 MiB",
        "1MB",
        "1kib",
        "-1",
        "1.5MiB",
        "1_000",
        "٣",
        "1\n",
        -1,
        1.0,
        True,
        None,
        b"1",
        1 << 70,
        "9" * 5000,
    ],
)
def test_what_is_no_size(value: object) -> None:
    with pytest.raises(ValueError, match="size"):
        parse_size(value)


# --- processors -------------------------------------------------------------------------------------------------------

SEPARATORS = st.sampled_from([",", " ", ", ", " ,", "  "])


@st.composite
def ranges(draw: st.DrawFn) -> tuple[int, int]:
    """Near the ends, and near each other."""
    first = draw(st.integers(0, 20) | st.integers(MAX_PROCESSOR - 20, MAX_PROCESSOR) | st.integers(0, MAX_PROCESSOR))
    return first, min(first + draw(st.integers(0, 5)), MAX_PROCESSOR)


@given(st.lists(ranges(), min_size=1), st.data())
def test_a_list_of_processors_is_what_its_ranges_hold(parts: list[tuple[int, int]], data: st.DataObject) -> None:
    """Whatever is between them, in any order, and if they overlap."""
    words = [f"{first}" if first == last and data.draw(st.booleans()) else f"{first}-{last}" for first, last in parts]
    text = words[0] + "".join(data.draw(SEPARATORS) + word for word in words[1:])
    assert parse_processors(text) == {number for first, last in parts for number in range(first, last + 1)}


@given(st.lists(ranges(), min_size=1))
def test_processors_there_and_back(parts: list[tuple[int, int]]) -> None:
    """The text is the only one that is sorted and as short as can be: no two of its ranges meet."""
    some = frozenset(number for first, last in parts for number in range(first, last + 1))
    text = processors_text(some)
    assert parse_processors(text) == some
    ends = (
        [int(part.partition("-")[0]) for part in text.split(",")],
        [int(part.rpartition("-")[2]) for part in text.split(",")],
    )
    assert all(last + 1 < first for first, last in zip(ends[0][1:], ends[1], strict=False))


@given(st.integers(-2, MAX_PROCESSOR + 2))
def test_a_number_is_one_processor(number: int) -> None:
    if 0 <= number <= MAX_PROCESSOR:
        assert parse_processors(number) == parse_processors(f"{number}") == {number}
    else:
        with pytest.raises(ValueError, match="expected processors"):
            parse_processors(number)


@pytest.mark.parametrize(
    "value",
    [
        "", " ", ",", "0,", ",0", "0,,1", "1-0", "0-", "-1", "0--1", "0-1-2", "0 - 1", "all", "0x1", "00", "01", "0-03", "1.5", "0-8192", "8192",
        "0:1", "0-6:2", "٣", "0\n", "0\t1", "+1", "99999999999", 10**400, 1.0, True, None, b"1", [1],
    ],
)  # fmt: skip
def test_what_are_no_processors(value: object) -> None:
    with pytest.raises(ValueError, match="expected processors from 0 to 8191"):
        parse_processors(value)


@pytest.mark.parametrize("parse", [parse_duration, parse_size, parse_processors])
def test_what_was_wrong_is_cut(parse: Callable[[object], object]) -> None:
    """The message goes to the log, and the value may come from a client."""
    with pytest.raises(ValueError, match="expected ") as caught:
        parse("x" * 100_000)
    assert len(str(caught.value)) < 200
