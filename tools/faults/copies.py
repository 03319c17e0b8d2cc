"""What the kit changes in its copy of an application, and what it reads there: text and YAML in, text out.

Where services listen, so that a test never meets what runs on the machine. Nothing else is
changed; comments stay where they are. A text that is no configuration is left to `wsrelay check` to complain of.
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


def adapt(text: str, sockets: Path) -> str:
    """The text of a configuration in which each `http.service` and `http.admin` listens on 127.0.0.1 and a free port, or, if it
    has a `unix:` address, on a socket of its name in the folder `sockets`."""
    try:
        document = yaml.compose(text)
    except yaml.YAMLError:
        return text
    changes = {change.start: change for change in _changes(document, sockets)}  # an alias is its anchor's node
    for start in sorted(changes, reverse=True):
        _, end, new = changes[start]
        text = text[:start] + new + text[end:]
    return text


def _changes(document: yaml.Node | None, sockets: Path) -> Iterator[_Change]:
    top = _fields(document)
    for entry in getattr(top.get("entries"), "value", []):
        fields = _fields(entry)
        kind = getattr(fields.get("kind"), "value", None)
        if kind in _LISTENERS:
            name = f"{_text(top.get('namespace'))}.{_text(fields.get('name'))}"
            yield from _listen(fields.get("addr"), sockets / f"{name}.sock")


def _listen(address: yaml.Node | None, socket: Path) -> Iterator[_Change]:
    if isinstance(address, yaml.ScalarNode) and not _FREE.fullmatch(address.value):
        new = f"unix:{socket}" if address.value.startswith("unix:") else "127.0.0.1:0"
        yield _Change(address.start_mark.index, address.end_mark.index, f'"{new}"')


def _text(node: yaml.Node | None) -> str:
    return str(node.value) if isinstance(node, yaml.ScalarNode) else ""


def _fields(node: yaml.Node | None) -> dict[Any, yaml.Node]:
    pairs = node.value if isinstance(node, yaml.MappingNode) else []
    return {key.value: value for key, value in pairs if isinstance(key, yaml.ScalarNode)}
