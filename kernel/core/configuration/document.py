"""YAML text to a tree of values that know their places.

Owns what of YAML is accepted: one document of mappings, lists and scalars. Knows nothing of fields or kinds. PyYAML composes
the nodes and never constructs an object, so no tag can do anything. Size, depth and the number of values after
aliases are followed are limited. Scalars are read more narrowly than YAML 1.1 does: `0x10`, `010`, `1_000` and `1:30` are
text here, because people disagree about their value.
"""

from __future__ import annotations

import bisect
import re
from dataclasses import dataclass, field
from typing import TypeAlias

import yaml

from .problems import Place, Problems, shown

MAX_BYTES = 1 << 20
"""Of one file."""
MAX_DEPTH = 40
MAX_VALUES = 50_000
"""In one file, counting an alias as all that it stands for."""

_TAG = "tag:yaml.org,2002:"
_SCALAR_TAGS = frozenset(_TAG + name for name in ("str", "int", "float", "bool", "null", "timestamp", "merge", "value"))
_INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,17})", re.ASCII)
_NUMBER = re.compile(r"-?(0|[1-9][0-9]{0,17})\.[0-9]{1,18}", re.ASCII)
_FLAGS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


@dataclass(frozen=True, slots=True)
class Scalar:
    """A single value. `text` is what was written."""

    place: Place
    value: str | int | float | bool | None
    text: str


@dataclass(frozen=True, slots=True)
class Sequence:
    """A list."""

    place: Place
    items: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Mapping:
    """Keys are text; each has its own place. A key without a value had a bad one, which was reported."""

    place: Place
    values: dict[str, Value] = field(default_factory=dict)
    keys: dict[str, Place] = field(default_factory=dict)


Value: TypeAlias = Scalar | Sequence | Mapping


def described(value: Value) -> str:
    """Return how a message names the value."""
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, Sequence):
        return "a list"
    if value.value is None:
        return "nothing"
    return shown(value.value) if isinstance(value.value, str) else shown(value.text).strip("'")


def read_document(path: str, content: bytes, problems: Problems) -> Value | None:
    """Read the only document of a file. None if it has none that can be read, and then that is reported."""
    if len(content) > MAX_BYTES:
        problems.add(Place(path, 1, 1), f"the file is too large, expected at most {MAX_BYTES} bytes")
        return None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start].decode("utf-8-sig")
        problems.add(_Places(path, before).at(len(before)), "the file is not text, expected UTF-8")
        return None
    places = _Places(path, text)
    node = _compose(text, places, problems)
    return None if node is None else _Reader(places, problems).read(node)


class _Places:
    """Where in the file the n-th character is. Only a line feed ends a line, as in editors, though YAML knows more."""

    def __init__(self, path: str, text: str) -> None:
        self._path = path
        self._starts = [0, *(match.end() for match in re.finditer("\n", text))]

    def at(self, index: int) -> Place:
        line = bisect.bisect_right(self._starts, index)
        return Place(self._path, line, index - self._starts[line - 1] + 1)

    def of(self, mark: yaml.Mark) -> Place:
        return self.at(mark.index)


class _TooMuch(yaml.MarkedYAMLError):
    """The document is too deep or too large; raised before Python's own recursion limit is."""


class _Composer(yaml.SafeLoader):
    """PyYAML's composer with limits; keys count as values here."""

    depth = 0
    composed = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        self.depth += 1
        self.composed += 1
        if self.depth > MAX_DEPTH or self.composed > 2 * MAX_VALUES:
            problem = (
                f"nested too deeply, expected at most {MAX_DEPTH} levels"
                if self.depth > MAX_DEPTH
                else f"too many values, expected at most {MAX_VALUES}"
            )
            raise _TooMuch(problem=problem, problem_mark=self.peek_event().start_mark)  # type: ignore[no-untyped-call]
        node: yaml.Node | None = super().compose_node(parent, index)
        self.depth -= 1
        return node


def _compose(text: str, places: _Places, problems: Problems) -> yaml.Node | None:
    try:
        composer = _Composer(text)
    except yaml.reader.ReaderError as error:  # the constructor reads all of the text
        problems.add(places.at(error.position), "a control character, expected text")
        return None
    try:
        node = composer.get_single_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark or composer.get_mark()
        context = f" ({error.context})" if error.context and "\n" not in error.context else ""
        problems.add(places.of(mark), f"not valid YAML: {error.problem}{context}")
    except (ValueError, OverflowError):  # an escape such as "\UFFFFFFFF" that PyYAML does not check
        problems.add(places.of(composer.get_mark()), "not valid YAML: an escape that is no character")
    else:
        if node is None:
            problems.add(places.at(0), "the file is empty, expected version, namespace and entries")
        return node
    return None


class _Reader:
    """Turns composed nodes into values; an alias is read again at each use, up to the limit."""

    def __init__(self, places: _Places, problems: Problems) -> None:
        self._places = places
        self._problems = problems
        self._read = 0
        self._open: set[int] = set()

    def read(self, node: yaml.Node) -> Value | None:
        place = self._places.of(node.start_mark)
        self._read += 1
        if self._read > MAX_VALUES or len(self._open) > MAX_DEPTH:
            # Places of aliased values repeat, so this is said once.
            if self._read <= MAX_VALUES + 1:
                self._problems.add(place, f"the file holds too much, expected at most {MAX_VALUES} values")
            self._read = MAX_VALUES + 1
            return None
        if id(node) in self._open:
            self._problems.add(place, "an alias that contains itself, expected a value")
            return None
        self._open.add(id(node))
        try:
            if isinstance(node, yaml.MappingNode):
                return self._mapping(node, place)
            if isinstance(node, yaml.SequenceNode):
                return self._sequence(node, place)
            return self._scalar(node, place)
        finally:
            self._open.discard(id(node))

    def _tagged(self, node: yaml.Node, known: frozenset[str], place: Place) -> bool:
        if node.tag in known:
            return True
        self._problems.add(place, f"unknown tag {shown(node.tag.replace(_TAG, '!!'))}, expected a plain value")
        return False

    def _mapping(self, node: yaml.MappingNode, place: Place) -> Mapping | None:
        if not self._tagged(node, frozenset({f"{_TAG}map"}), place):
            return None
        mapping = Mapping(place)
        for key_node, value_node in node.value:
            key_place = self._places.of(key_node.start_mark)
            if not isinstance(key_node, yaml.ScalarNode):
                self._problems.add(key_place, "a list or mapping as a key, expected the name of a field")
                continue
            key = key_node.value
            if key_node.tag == f"{_TAG}merge":
                self._problems.add(key_place, "merge keys (<<) are not supported, expected the name of a field")
                continue
            if key in mapping.keys:
                first = mapping.keys[key]
                self._problems.add(key_place, f"duplicate key {shown(key)}, first given at {first.line}:{first.column}")
                continue
            mapping.keys[key] = key_place
            value = self.read(value_node)
            if value is not None:
                mapping.values[key] = value
        return mapping

    def _sequence(self, node: yaml.SequenceNode, place: Place) -> Sequence | None:
        if not self._tagged(node, frozenset({f"{_TAG}seq"}), place):
            return None
        return Sequence(place, tuple(item for item in map(self.read, node.value) if item is not None))

    def _scalar(self, node: yaml.Node, place: Place) -> Scalar | None:
        if not self._tagged(node, _SCALAR_TAGS, place):
            return None
        text = node.value
        value: str | int | float | bool | None = text
        if node.tag == f"{_TAG}null":
            value = None
        elif node.tag == f"{_TAG}bool":
            value = _FLAGS.get(text.lower(), text)
        elif node.tag == f"{_TAG}int" and _INTEGER.fullmatch(text):
            value = int(text)
        elif node.tag == f"{_TAG}float" and _NUMBER.fullmatch(text):
            value = float(text)
        return Scalar(place, value, text)
