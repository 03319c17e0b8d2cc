"""A document to entries whose fields have been read, each by itself.

Owns the check of one file against the table of kinds. Knows nothing of other files or of what references lead to.
"""

from __future__ import annotations

import collections.abc
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from . import syntax
from .document import Mapping, Scalar, Sequence, Value, described
from .problems import Mistake, Place, Problems, Unavailable, closest, shown, suggestion
from .schema import KINDS, REQUIRED, REQUIRED_IN_GROUP, Field, Kind

_TOP = ("version", "namespace", "entries")


@dataclass(frozen=True, slots=True)
class File:
    """A YAML file. `path` is what problems show; `directory` is absolute and what the file's relative paths start from."""

    path: str
    content: bytes
    directory: str


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of a known kind. A required field that was bad is absent from `values`; an optional one has its default."""

    id: str
    kind: str
    file: File
    namespace: str
    place: Place
    """Of its name."""
    values: dict[str, Any]
    places: dict[str, Place]
    """Of the values that were given."""
    bad: frozenset[str]
    """The fields that were given and are not what they should be."""

    def place_of(self, name: str) -> Place:
        """Where the field is, or the entry if it was not given."""
        return self.places.get(name, self.place)


@dataclass(slots=True)
class Entries:
    """All entries of all files."""

    by_id: dict[str, Entry] = field(default_factory=dict)
    unusable: set[str] = field(default_factory=set)
    """Ids whose kind is not known."""
    duplicates: list[Entry] = field(default_factory=list)
    """Entries whose id another one has; only their sources are looked at further."""
    complete: bool = True
    """Whether everything that the files define could be read; only then is a missing entry a mistake."""

    def of(self, kind: str) -> list[Entry]:
        """The entries of a kind, in the order of the files."""
        return [entry for entry in self.by_id.values() if entry.kind == kind]


def report_unknown(
    problems: Problems, mapping: Mapping, known: collections.abc.Sequence[str], owner: str, prefix: str = ""
) -> None:
    """Report every key that is no known field."""
    for key, place in mapping.keys.items():
        if key not in known:
            hint = suggestion(key, known) or f"; expected {', '.join(known)}"
            problems.add(place, f"unknown field {shown(prefix + key)} of {owner}{hint}")


class FileReader:
    """Reads the entries of one file into `entries`."""

    def __init__(self, file: File, entries: Entries, problems: Problems) -> None:
        self._file = file
        self._entries = entries
        self._problems = problems

    def read(self, document: Value | None) -> None:
        """Read a whole document."""
        if document is None:
            self._entries.complete = False
            return
        if not isinstance(document, Mapping):
            message = f"expected a mapping of version, namespace and entries, got {described(document)}"
            self._give_up(document.place, message)
            return
        report_unknown(self._problems, document, _TOP, "a file")
        self._check_missing(document, _TOP, "a file")
        self._check_version(document.values.get("version"))
        namespace = self._read_name(document.values.get("namespace"), "namespace")
        entries = document.values.get("entries")
        if isinstance(entries, Sequence) and namespace is not None:
            for entry in entries.items:
                self._read_entry(entry, namespace)
            return
        self._entries.complete = False
        if entries is not None and not isinstance(entries, Sequence):
            self._problems.add(entries.place, f"entries: expected a list, got {described(entries)}")

    def _give_up(self, place: Place, message: str) -> None:
        self._problems.add(place, message)
        self._entries.complete = False

    def _check_version(self, version: Value | None) -> None:
        if version is not None and (not isinstance(version, Scalar) or version.text != "1.0"):
            self._problems.add(version.place, f'version: expected "1.0", got {described(version)}')

    def _check_missing(self, mapping: Mapping, required: tuple[str, ...] | list[str], owner: str) -> None:
        misspelt = {closest(key, required) for key in mapping.keys if key not in required}
        for name in required:
            if name not in mapping.keys and name not in misspelt:
                self._problems.add(mapping.place, f"missing field {name} of {owner}")

    def _read_name(self, value: Value | None, name: str) -> str | None:
        if value is None:
            return None
        try:
            if not isinstance(value, Scalar) or not isinstance(value.value, str):
                raise Mistake(
                    f"expected text, got {described(value)}{'' if not isinstance(value, Scalar) else ' without quotes'}"
                )
            return syntax.parse_name(value.value)
        except Mistake as mistake:
            self._problems.add(value.place, f"{name}: {mistake}")
            return None

    def _read_entry(self, value: Value, namespace: str) -> None:
        if not isinstance(value, Mapping):
            self._give_up(value.place, f"expected an entry with name and kind, got {described(value)}")
            return
        kind = self._read_kind(value)
        self._check_missing(value, ("name", "kind"), "an entry")
        name_value = value.values.get("name")
        name = self._read_name(name_value, "name")
        if name is None or name_value is None:
            self._entries.complete = False
            if kind is not None:
                EntryReader(kind, value, self._problems).read()
            return
        id = f"{namespace}:{name}"
        if kind is None:
            self._entries.unusable.add(id)
            return
        values, places, bad = EntryReader(kind, value, self._problems).read()
        entry = Entry(id, kind.name, self._file, namespace, name_value.place, values, places, bad)
        first = self._entries.by_id.setdefault(id, entry)
        if first is not entry:
            self._problems.add(name_value.place, f"duplicate id {id}, first defined at {first.place}")
            self._entries.duplicates.append(entry)

    def _read_kind(self, entry: Mapping) -> Kind | None:
        value = entry.values.get("kind")
        if value is None:
            return None
        name = value.value if isinstance(value, Scalar) else None
        if not isinstance(name, str):
            self._problems.add(value.place, f"kind: expected text, got {described(value)}")
        elif name not in KINDS:
            hint = suggestion(name, KINDS) or f"; expected {', '.join(KINDS)}"
            self._problems.add(value.place, f"unknown kind {shown(name)}{hint}")
        else:
            return KINDS[name]
        return None


class EntryReader:
    """Reads the fields of one entry."""

    def __init__(self, kind: Kind, entry: Mapping, problems: Problems) -> None:
        self._kind = kind
        self._entry = entry
        self._problems = problems
        self._values: dict[str, Any] = {}
        self._places: dict[str, Place] = {}
        self._bad: set[str] = set()

    def read(self) -> tuple[dict[str, Any], dict[str, Place], frozenset[str]]:
        """Return the values with defaults, the places of those that were given, and which were bad."""
        top = [each.path[0] for each in self._kind.fields]
        known = [*dict.fromkeys(["name", "kind", *top, "meta"])]
        report_unknown(self._problems, self._entry, known, self._kind.name)
        groups: dict[str, Mapping | None] = {"": self._entry}
        for group, names in self._kind.groups.items():
            groups[group] = self._group(group, names, groups)
        for each in self._kind.fields:
            if (mapping := groups[".".join(each.path[:-1])]) is not None:
                self._read_field(each, mapping)
        return self._values, self._places, frozenset(self._bad)

    def _group(self, group: str, names: list[str], groups: dict[str, Mapping | None]) -> Mapping | None:
        """Return the group's mapping, an empty one if it is not given, None if it is bad. `groups` has the outer ones."""
        outer, _, key = group.rpartition(".")
        holder = groups[outer]
        if holder is None:
            return None
        if key not in holder.keys:
            return Mapping(holder.place)
        value = holder.values.get(key)
        if isinstance(value, Mapping):
            if group != "meta":  # which may hold keys of the user's own
                report_unknown(self._problems, value, names, self._kind.name, f"{group}.")
            return value
        if value is not None:
            self._problems.add(value.place, f"{group}: expected a mapping, got {described(value)}")
        for each in self._kind.fields:
            if each.name.startswith(f"{group}.") and not isinstance(each.default, type(REQUIRED)):
                self._values[each.name] = each.default
        return None

    def _read_field(self, each: Field, mapping: Mapping) -> None:
        key = each.path[-1]
        required = each.default is REQUIRED or (each.default is REQUIRED_IN_GROUP and each.path[0] in self._entry.keys)
        if key not in mapping.keys:
            if required:
                self._report_missing(each, mapping)
            else:
                self._values[each.name] = None if each.default is REQUIRED_IN_GROUP else each.default
            return
        value = mapping.values.get(key)
        if not required:
            self._values[each.name] = None if each.default is REQUIRED_IN_GROUP else each.default
        if value is None:
            return
        self._places[each.name] = value.place
        try:
            self._values[each.name] = each.type.read(value, partial(self._report, each))
        except Mistake as mistake:
            self._report(each, value.place, mistake)

    def _report_missing(self, each: Field, mapping: Mapping) -> None:
        siblings = [sibling.path[-1] for sibling in self._kind.fields if sibling.path[:-1] == each.path[:-1]]
        misspelt = {closest(key, siblings) for key in mapping.keys if key not in siblings}
        if each.path[0] == "meta":  # misspelt keys are not reported there
            misspelt = set()
        top = [sibling.path[0] for sibling in self._kind.fields]
        misspelt_groups = {closest(key, top) for key in self._entry.keys if key not in top}
        if each.path[-1] not in misspelt and not (len(each.path) == 2 and each.path[0] in misspelt_groups):
            self._problems.add(mapping.place, f"missing field {each.name} of {self._kind.name}")

    def _report(self, each: Field, place: Place, mistake: Mistake) -> None:
        self._bad.add(each.name)
        separator = " " if isinstance(mistake, Unavailable) else ": "
        self._problems.add(place, f"{each.name}{separator}{mistake}")
