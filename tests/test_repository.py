"""Rules of the repository that no linter knows."""

from __future__ import annotations

import ast
import configparser
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
ROOT = TESTS.parent


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


def test_every_package_is_listed() -> None:
    """setup.cfg names each package; one that is missing there would be missing from the wheel, and nowhere else."""
    metadata = configparser.ConfigParser()
    metadata.read(ROOT / "setup.cfg")
    listed = set(metadata["options"]["packages"].split())
    folders = {
        path.parent for top in ("kernel", "gateway", "workers", "tools/faults") for path in (ROOT / top).rglob("*.py")
    }
    assert listed == {".".join(("wsrelay", *folder.relative_to(ROOT).parts)) for folder in folders}


def test_every_local_link_of_the_pages_leads_somewhere() -> None:
    broken = []
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "examples").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
            if "://" not in target and not (page.parent / target).exists():
                broken.append(f"{page.name}: {target}")
    assert not broken
