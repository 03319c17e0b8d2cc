"""The types that fields have: how a value of each is read, and what was expected when it cannot be.

Owns the reading of one value. Knows nothing of kinds, entries or files. `read` raises `Mistake` about the value as a whole;
about the items of a list it reports, so that each is told.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from ...wire.errors import Invalid
from ...wire.pid import check_name
from ...wire.quantities import MAX_PROCESSOR, parse_duration, parse_processors, parse_size
from . import syntax
from .document import Mapping, Scalar, Sequence, Value, described
from .problems import Mistake, Place, Unavailable, shown, suggestion

Report: TypeAlias = Callable[[Place, Mistake], None]


@dataclass(frozen=True, slots=True)
class Type:
    """`name` is how the reference calls it."""

    name: str
    read: Callable[[Value, Report], Any]


def _expected(what: str, value: Value) -> Mistake:
    return Mistake(f"expected {what}, got {described(value)}")


def _text(value: Value, what: str) -> str:
    if not isinstance(value, Scalar) or value.value is None:
        raise _expected(what, value)
    if not isinstance(value.value, str):
        raise Mistake(f"expected {what} as text, got {described(value)} without quotes")
    if not value.value.isprintable():
        raise Mistake(f"expected {what} without control characters, got {described(value)}")
    return value.value


def text(name: str, parse: Callable[[str], str] = str) -> Type:
    """Text that `parse` checks and normalizes."""
    return Type(name, lambda value, report: parse(_text(value, name)))


def choice(name: str, *choices: str) -> Type:
    """One of some words."""

    def parse(word: str) -> str:
        if word not in choices:
            expected = " or ".join(filter(None, (", ".join(choices[:-1]), choices[-1])))
            raise Mistake(f"expected {expected}, got {shown(word)}{suggestion(word, choices)}")
        return word

    return text(name, parse)


def _quantity(value: Value, what: str, parse: Callable[[object], Any]) -> Any:
    if not isinstance(value, Scalar):
        raise _expected(what, value)
    if value.value is None:
        raise _expected(what, value)
    try:
        return parse(value.value if isinstance(value.value, str | int | float) else value.text)
    except ValueError as error:
        message = str(error)
    raise Mistake(message if len(message) < 200 else f"expected {what}, got {described(value)}")


def duration(*, zero: bool, least: float = 0.0) -> Type:
    """Seconds as a float."""
    what = "a duration such as 200ms, 30s or 1m30s"

    def read(value: Value, _: Report) -> float:
        seconds: float = _quantity(value, what, parse_duration)
        if not zero and seconds == 0:
            raise Mistake(f"expected a duration longer than 0, got {described(value)}")
        if seconds < least:
            raise Mistake(f"expected a duration of at least {least:g}s, got {described(value)}")
        return seconds

    return Type("a duration, 0 for none" if zero else "a duration", read)


def size(least: int, most: int) -> Type:
    """Bytes."""

    def read(value: Value, _: Report) -> int:
        number: int = _quantity(value, "a size such as 4096, 64KiB or 1MiB", parse_size)
        if not least <= number <= most:
            raise Mistake(f"expected a size from {least} to {most} bytes, got {described(value)}")
        return number

    return Type("a size", read)


def count(least: int, most: int = 1_000_000) -> Type:
    """A whole number."""

    def read(value: Value, _: Report) -> int:
        number = value.value if isinstance(value, Scalar) else None
        if not isinstance(number, int) or isinstance(number, bool) or not least <= number <= most:
            raise _expected(f"a whole number from {least} to {most}", value)
        return number

    return Type("a whole number", read)


def whole(least: int, most: int) -> Type:
    """A whole number that may be below 0."""
    return Type("a whole number", count(least, most).read)


def _read_umask(value: Value, _: Report) -> int:
    if isinstance(value, Scalar) and _UMASK.fullmatch(value.text):
        return int(value.text, 8)
    raise _expected("an octal number from 000 to 0777, such as 0077", value)


_UMASK = re.compile(r"0?[0-7]{3}", re.ASCII)
UMASK = Type("an octal number", _read_umask)


_SOME_PROCESSORS = f"processors from 0 to {MAX_PROCESSOR} such as 1 or 0-3,8"


def _read_processors(value: Value, report: Report) -> tuple[int, ...]:
    members = value.items if isinstance(value, Sequence) else (value,)
    if not members:
        raise _expected(_SOME_PROCESSORS, value)
    found: set[int] = set()
    for member in members:
        try:
            found |= _quantity(member, _SOME_PROCESSORS, parse_processors)
        except Mistake as mistake:
            report(member.place, mistake)
    return tuple(sorted(found))


PROCESSORS = Type("processors", _read_processors)


def _read_variables(value: Value, report: Report) -> tuple[tuple[str, str], ...]:
    if not isinstance(value, Mapping):
        raise _expected("a mapping of names to text", value)
    made = []
    for name, item in value.values.items():
        try:
            made.append((syntax.parse_variable(name), _text(item, f"the value of {name[:100]}")))
        except Mistake as mistake:
            report(item.place, mistake)
    return tuple(made)


VARIABLES = Type("a mapping of names to text", _read_variables)


def code(*codes: int) -> Type:
    """One of some close codes."""

    def read(value: Value, _: Report) -> int:
        number = value.value if isinstance(value, Scalar) else None
        if not isinstance(number, int) or isinstance(number, bool) or number not in codes:
            raise _expected(" or ".join(map(str, codes)), value)
        return number

    return Type("a close code", read)


def number(least: float, most: float) -> Type:
    """A number, as a float."""

    def read(value: Value, _: Report) -> float:
        given = value.value if isinstance(value, Scalar) else None
        if not isinstance(given, int | float) or isinstance(given, bool) or not least <= given <= most:
            raise _expected(f"a number from {least:g} to {most:g}", value)
        return float(given)

    return Type("a number", read)


def _read_flag(value: Value, _: Report) -> bool:
    if isinstance(value, Scalar) and isinstance(value.value, bool):
        return value.value
    raise _expected("true or false", value)


FLAG = Type("true or false", _read_flag)


def _is_none(value: Value) -> bool:
    return isinstance(value, Scalar) and (value.value is None or value.value == "none")


def optional(inner: Type) -> Type:
    """The inner type, or `none`."""
    return Type(f"{inner.name}, or none", lambda value, report: None if _is_none(value) else inner.read(value, report))


def items(inner: Type, name: str, *, commas: bool = False, empty: bool = True) -> Type:
    """A list without duplicates; with `commas` also text with commas between the items."""

    def read(value: Value, report: Report) -> tuple[Any, ...]:
        members = _members(value, name, commas)
        if not members and not empty:
            raise _expected(f"{name} with at least one item", value)
        made: list[Any] = []
        for member in members:
            try:
                made.append(item := inner.read(member, report))
                if item in made[:-1]:
                    raise Mistake(f"expected each item once, got {described(member)} twice")
            except Mistake as mistake:
                report(member.place, mistake)
        return tuple(made)

    return Type(name, read)


def _members(value: Value, name: str, commas: bool) -> tuple[Value, ...]:
    if isinstance(value, Sequence):
        return value.items
    if not commas:
        raise _expected(name, value)
    parts = [part.strip() for part in _text(value, name).split(",")]
    return tuple(Scalar(value.place, part, part) for part in parts) if any(parts) else ()


def words(what: str, *known: str) -> Type:
    """A list of known words, each once."""

    def parse(word: str) -> str:
        if word not in known:
            expected = f"expected {' or '.join(known)}" if known else "there is none in this version"
            raise Mistake(f"unknown {what} {shown(word)}, {expected}")
        return word

    return items(text(what, parse), "a list")


def _read_empty_mapping(value: Value, _: Report) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise _expected("a mapping", value)
    for key in value.keys:
        raise Mistake(f"unknown option {shown(key)}, there is none in this version")
    return {}


EMPTY_MAPPING = Type("an empty mapping", _read_empty_mapping)


def _read_unavailable(value: Value, _: Report) -> None:
    if not (_is_none(value) or (isinstance(value, Scalar) and value.value is False)):
        raise Unavailable


UNAVAILABLE = Type("not available in this version", _read_unavailable)


@dataclass(frozen=True, slots=True)
class Reference:
    """One of several references; equal to another to the same entry."""

    text: str
    place: Place = field(compare=False)


def _read_reference(value: Value, _: Report) -> Reference:
    return Reference(syntax.parse_reference(_text(value, "the name of an entry")), value.place)


REFERENCES = items(Type("the name of an entry", _read_reference), "a list")


def _parse_registered_name(name: str) -> str:
    try:
        return check_name(name)
    except Invalid as problem:
        raise Mistake(str(problem)) from None


REGISTERED_NAME = text("a name", _parse_registered_name)

MAX_ARGUMENTS = 1 << 20
"""Characters and values of `args` together, aliases followed."""


def _read_arguments(value: Value, _: Report) -> list[Any]:
    if not isinstance(value, Sequence):
        raise _expected("a list", value)
    if _weight(value) > MAX_ARGUMENTS:
        raise Mistake(f"expected at most {MAX_ARGUMENTS} characters in all")
    arguments: list[Any] = _plain(value)
    return arguments


def _weight(value: Value) -> int:
    """The size of what `_plain` gives, without making it: an alias may stand for much."""
    if isinstance(value, Mapping):
        return sum(len(key) + _weight(item) for key, item in value.values.items()) + 1
    if isinstance(value, Sequence):
        return sum(map(_weight, value.items)) + 1
    return len(value.text) + 1


def _plain(value: Value) -> Any:
    if isinstance(value, Mapping):
        return {_carried(key): _plain(item) for key, item in value.values.items()}
    return [_plain(item) for item in value.items] if isinstance(value, Sequence) else _carried(value.value)


def _carried(value: Any) -> Any:
    """`value`, which msgpack must be able to carry: an escape such as "\\ud800" gives half a character."""
    if isinstance(value, str) and not value.isprintable() and any("\ud800" <= letter <= "\udfff" for letter in value):
        raise Mistake(f"expected text in whole characters, got {shown(value)}")
    return value


ARGUMENTS = Type("a list of plain values", _read_arguments)


def _origins(value: Value, report: Report) -> tuple[str, ...]:
    origins: tuple[str, ...] = _ORIGINS.read(value, report)
    if "*" in origins and len(origins) > 1:
        raise Mistake("expected * to stand alone, because it allows every origin")
    return origins


_ORIGINS = items(
    text("an origin", syntax.parse_origin), "origins with commas between, or a list", commas=True, empty=False
)
ORIGINS = Type(_ORIGINS.name, _origins)
