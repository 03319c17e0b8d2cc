"""Renders the page of the wire protocol from `kernel/wire/messages/`, the only place where the wire is described."""

from __future__ import annotations

import ast
import inspect
import sys
from pathlib import Path
from types import ModuleType
from typing import Final

from wsrelay.kernel.wire import messages, reason

HEAD: Final = """\
# The wire

<!-- Rendered from kernel/wire/messages/ by tools/render-wire. Edit the modules there, not this page. -->

How the processes of one runtime talk. [ARCHITECTURE.md](../ARCHITECTURE.md) says which channel joins whom. The protocol
is between processes of one version on one machine: it is nothing to write a client for.

A channel is a stream of msgpack values. Each is a frame: an array `[tag, field, …]` with the fields in the order given
here. Integers are not negative. A field of type `bytes` is opaque here, and packed by the library that reads it. A record
inside a record is an array of its fields. No string is longer than {limit} MiB. A reader checks every field, and a frame
that does not fit this page ends its writer (S11). A tag is never reused.
"""


def render() -> str:
    """The whole page."""
    documentation: dict[tuple[str, str], str] = {}
    for module in (messages.mark, messages.worker, messages.gateway, messages.data, messages.host, reason):
        documentation |= _field_documentation(module)
    lines = [HEAD.format(limit=messages.MAX_FRAME >> 20)]
    for direction, records in messages.DIRECTIONS.items():
        lines.append(f"## {direction[0].upper()}{direction[1:]}\n")
        for tag, record in sorted(records.items()):
            lines += _section(f"### {tag} `{record.__name__}`", record, documentation)
    lines.append("## Records inside records\n")
    for record in (messages.Mark, reason.WireReason):
        lines += _section(f"### `{record.__name__}`", record, documentation)
    return "\n".join(lines).rstrip() + "\n"


def _section(title: str, record: type, documentation: dict[tuple[str, str], str]) -> list[str]:
    lines = [f"{title}\n", f"{inspect.cleandoc(record.__doc__ or '')}\n"]
    if record in messages.CARRIES_DESCRIPTOR:
        lines.append("With it comes one descriptor (SCM_RIGHTS).\n")
    fields = record.__annotations__
    if not fields:
        return [*lines, "No fields.\n"]
    for name, annotation in fields.items():
        text = documentation.get((record.__name__, name))
        lines.append(f"- `{name}`: {_spell_type(annotation)}{f'. {text}' if text else ''}")
    return [*lines, ""]


def _spell_type(annotation: object) -> str:
    """`str | None` as people say it."""
    spelt = getattr(annotation, "__forward_arg__", None) or str(annotation)
    return " or ".join("nothing" if arm == "None" else f"`{arm}`" for arm in spelt.split(" | "))


def _field_documentation(module: ModuleType) -> dict[tuple[str, str], str]:
    """The strings below the fields of the module's classes, which Python itself throws away."""
    found = {}
    for node in ast.parse(inspect.getsource(module)).body:
        if not isinstance(node, ast.ClassDef):
            continue
        for field, string in zip(node.body, node.body[1:], strict=False):
            if (
                isinstance(field, ast.AnnAssign)
                and isinstance(field.target, ast.Name)
                and isinstance(string, ast.Expr)
                and isinstance(string.value, ast.Constant)
                and isinstance(string.value.value, str)
            ):
                found[node.name, field.target.id] = " ".join(inspect.cleandoc(string.value.value).split())
    return found


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(render())
