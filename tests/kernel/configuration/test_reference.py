"""docs/configuration.md says what the schema says, and the schema covers the dataclasses it fills."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
from wsrelay.kernel.core.configuration.reference import render_fields
from wsrelay.kernel.core.configuration.schema import KINDS
from wsrelay.kernel.wire.configuration import HostLimits, Lifecycle, Limits, Ping, Proxy, Restart, Timeouts, Tls

PAGE = (Path(__file__).parents[3] / "docs" / "configuration.md").read_text()


@pytest.mark.parametrize("kind", KINDS)
def test_the_page_has_the_table_of_the_kind(kind: str) -> None:
    section = re.search(rf"^### {re.escape(kind)}\n(.*?)(?=^### |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert section, f"no section {kind}"
    assert KINDS[kind].about in section[1]
    assert render_fields(kind) in section[1], f"the fields of {kind} have changed; expected:\n\n{render_fields(kind)}"


def test_the_page_names_every_kind() -> None:
    assert re.findall(r"^### (.*)$", PAGE, re.MULTILINE) == list(KINDS)


@pytest.mark.parametrize(
    ("kind", "group", "made"),
    [
        ("http.service", "timeouts", Timeouts),
        ("http.service", "ping", Ping),
        ("http.service", "limits", Limits),
        ("http.service", "tls", Tls),
        ("http.service", "proxy", Proxy),
        ("process.host", "limits", HostLimits),
        ("process.service", "lifecycle", Lifecycle),
        ("process.service", "lifecycle.restart", Restart),
    ],
)
def test_the_schema_has_every_field_of_the_dataclass(kind: str, group: str, made: type) -> None:
    assert {field.name for field in dataclasses.fields(made)} <= set(KINDS[kind].groups[group])
