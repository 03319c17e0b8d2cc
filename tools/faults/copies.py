"""What the kit changes in its copy of an application, and what it reads there: text and YAML in, text out.

Where services listen, so that a test never meets what runs on the machine; and what a sandbox lets through: the folder of the armed
points, or `point` could do nothing there. Nothing else is changed; comments stay where they are. A text that is no configuration is left to `wsrelay check` to complain of.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

_FREE = re.compile(r"(127\.0\.0\.1|localhost|\[::1\]):0", re.IGNORECASE)
_LISTENERS = ("http.service", "http.admin")


class _Change(NamedTuple):
    """Text that goes in the place of what is from `start` to `end`."""

    start: int
    end: int
    text: str


def adapt(text: str, sockets: Path, points: Path) -> str:
    """The text of a configuration in which each `http.service` and `http.admin` listens on 127.0.0.1 and a free port, or, if it
    has a `unix:` address, on a socket of its name in the folder `sockets`. The sandbox of a host lets its workers write to `points`.
    """
    try:
        document = yaml.compose(text)
    except yaml.YAMLError:
        return text
    changes = {change.start: change for change in _changes(document, sockets, points)}  # an alias is its anchor's node
    for start in sorted(changes, reverse=True):
        _, end, new = changes[start]
        text = text[:start] + new + text[end:]
    return text


def entry_ids(text: str) -> set[str]:
    """The ids of the entries, `namespace:name`."""
    try:
        top = _fields(yaml.compose(text))
    except yaml.YAMLError:
        return set()
    names = (_text(_fields(entry).get("name")) for entry in getattr(top.get("entries"), "value", []))
    return {f"{_text(top.get('namespace'))}:{name}" for name in names}


def users(text: str) -> dict[str, str]:
    """Hosts with a `user` of their own: id to user."""
    try:
        top = _fields(yaml.compose(text))
    except yaml.YAMLError:
        return {}
    hosts = (_fields(entry) for entry in getattr(top.get("entries"), "value", []))
    return {
        f"{_text(top.get('namespace'))}:{_text(host.get('name'))}": user
        for host in hosts
        if _text(host.get("kind")) == "process.host" and (user := _text(host.get("user")))
    }


def _changes(document: yaml.Node | None, sockets: Path, points: Path) -> Iterator[_Change]:
    top = _fields(document)
    for entry in getattr(top.get("entries"), "value", []):
        fields = _fields(entry)
        kind = getattr(fields.get("kind"), "value", None)
        if kind in _LISTENERS:
            name = f"{_text(top.get('namespace'))}.{_text(fields.get('name'))}"
            yield from _listen(fields.get("addr"), sockets / f"{name}.sock")
        elif kind == "process.host":
            yield from _let_through(fields.get("sandbox"), points)


def _listen(address: yaml.Node | None, socket: Path) -> Iterator[_Change]:
    if isinstance(address, yaml.ScalarNode) and not _FREE.fullmatch(address.value):
        new = f"unix:{socket}" if address.value.startswith("unix:") else "127.0.0.1:0"
        yield _Change(address.start_mark.index, address.end_mark.index, f'"{new}"')


def _let_through(sandbox: yaml.Node | None, points: Path) -> Iterator[_Change]:
    """Add a folder to what may be written, if there is a sandbox of files: a list of its own, or one more at the list's begin."""
    fields = _fields(sandbox)
    lists = {name: node for name in ("read", "write") if isinstance(node := fields.get(name), yaml.SequenceNode)}
    if not lists:
        return
    if "write" in lists:
        yield _insert(lists["write"], lists["write"].value, f'"{points}"', before="- ")
    elif "write" not in fields:
        assert isinstance(sandbox, yaml.MappingNode)
        yield _insert(sandbox, [key for key, _ in sandbox.value], f'write: ["{points}"]', before="")


def _insert(node: yaml.CollectionNode, members: list[yaml.Node], text: str, *, before: str) -> _Change:
    """Another first member of a list or mapping, which keeps its style."""
    if node.flow_style:
        start = node.end_mark.index - 1 if not members else members[0].start_mark.index
        return _Change(start, start, f"{text}, " if members else text)
    mark = members[0].start_mark
    return _Change(mark.index, mark.index, f"{text}\n{' ' * (mark.column - len(before))}{before}")


def _text(node: yaml.Node | None) -> str:
    return str(node.value) if isinstance(node, yaml.ScalarNode) else ""


def _fields(node: yaml.Node | None) -> dict[Any, yaml.Node]:
    pairs = node.value if isinstance(node, yaml.MappingNode) else []
    return {key.value: value for key, value in pairs if isinstance(key, yaml.ScalarNode)}
