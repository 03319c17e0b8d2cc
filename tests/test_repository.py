"""Rules of the repository that no linter knows."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).parent


def sleeps(source: str) -> list[int]:
    """The lines of `source` that call a sleep."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        function = node.func
        name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
        if name == "sleep":
            found.append(node.lineno)
    return sorted(found)


@pytest.mark.parametrize("path", sorted(TESTS.rglob("*.py")), ids=lambda path: str(path.relative_to(TESTS)))
def test_no_test_sleeps(path: Path) -> None:
    """`support.waiting` waits for a condition. (A handler that a test runs is text here, and may do as it likes.)"""
    assert not sleeps(path.read_text()), f"{path}: wait for a condition with support.waiting instead"


def test_sleeps_are_found() -> None:
    assert sleeps("import time\ntime.sleep(1)\nasync def f():\n    await asyncio.sleep(0)\n    sleep(2)") == [2, 4, 5]
