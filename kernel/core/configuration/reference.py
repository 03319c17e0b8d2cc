"""Renders the table of fields of each kind, as `docs/configuration.md` shows it.

Knows only the schema.
"""

from __future__ import annotations

from .schema import KINDS, REQUIRED, REQUIRED_IN_GROUP, Field
from .types import UNAVAILABLE


def render_fields(kind: str) -> str:
    """Return a Markdown table of the kind's fields."""
    rows = ["| field | type | default | |", "|---|---|---|---|"]
    for field in KINDS[kind].fields:
        rows.append(f"| `{field.name}` | {field.type.name} | {_default(field)} | {field.about} |")
    return "\n".join(rows)


def _default(field: Field) -> str:
    value = field.default
    if value in (REQUIRED, REQUIRED_IN_GROUP):
        return str(value)
    if field.type is UNAVAILABLE and value is None:
        return "none"
    if value in (None, (), {}, ""):
        return "none"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, float):
        return f"`{value:g}s`" if field.type.name.startswith("a duration") else f"`{value}`"
    return f"`{_size(value)}`" if field.type.name == "a size" else f"`{value}`"


def _size(value: int) -> str:
    for unit, factor in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if value >= factor and value % factor == 0:
            return f"{value // factor}{unit}"
    return str(value)
