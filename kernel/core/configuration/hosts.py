"""What two fields of a `process.host` cannot both say, or say only together.

Knows nothing of the machine: whether it can give what is asked for is `core/enforcement`'s, at the start.
"""

from __future__ import annotations

from collections.abc import Iterator

from .entries import Entry
from .problems import Problems


def check_host(entry: Entry, problems: Problems) -> None:
    """Report every contradiction, at the field that has no effect or cannot be."""
    for name, message in _contradictions(entry):
        problems.add(entry.place_of(name), f"{name}: {message}")


def _contradictions(entry: Entry) -> Iterator[tuple[str, str]]:
    values = entry.values
    if values["limits.disk"] is not None and not values["private_tmp"]:
        yield "limits.disk", "has no effect, expected private_tmp: true beside it"
    if not values["no_new_privs"] and (
        values["sandbox.read"] is not None or values["sandbox.write"] is not None or not values["sandbox.signals"]
    ):
        yield "no_new_privs", "expected true beside a sandbox, which the kernel gives only to who renounces privileges"
    names = dict(values["environment.set"])
    if values["environment.unset"] and not values["environment.inherit"]:
        yield "environment.unset", "has no effect beside inherit: false, expected one of them"
    for name in values["environment.unset"]:
        if name in names:
            yield "environment.unset", f"{name} is in environment.set too, expected it in one of them"
    if values["private_tmp"] and "TMPDIR" in names:
        yield "environment.set", "TMPDIR is what private_tmp sets, expected one of them"
    for name in [*names, *values["environment.unset"]]:
        if name.startswith("WSRELAY_"):
            where = "environment.set" if name in names else "environment.unset"
            yield where, f"{name} is the runtime's own, expected another name"
