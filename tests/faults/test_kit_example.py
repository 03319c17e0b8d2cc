"""The example of docs/testing.md: the kit finds its bug and shrinks it, and what keeps its promise passes."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from wsrelay.tools import faults

ROOT = Path(__file__).parent.parent.parent


def test_the_ledger_s_bug_is_found_and_shrunk(tmp_path: Path) -> None:
    folder = tmp_path / "ledger"
    shutil.copytree(ROOT / "examples" / "ledger", folder, ignore=shutil.ignore_patterns("__pycache__"))
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "WSRELAY"))}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--runxfail", "--hypothesis-seed=1", "-v"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    said = done.stdout
    assert re.search(r"\[careful\] PASSED", said), said
    assert re.search(r"\[careless\] FAILED", said), said
    # One deposit, the smallest; the simplest fault; at the only point where it does harm.
    assert "\ndeposits = [Deposit(amount=1, fault=Raise(text='fault'), point='balance.written')]\n" in said, said
    assert "AssertionError: assert 2 == 1" in said
    page = (ROOT / "docs" / "testing.md").read_text()
    assert "Raise(text='fault')" in page
    assert "assert 2 == 1" in page


def test_the_page_shows_the_code_that_is_run() -> None:
    page = (ROOT / "docs" / "testing.md").read_text()
    blocks = re.findall(r"```python\n# examples/ledger/(\S+)\n(.*?)```", page, re.DOTALL)
    assert len(blocks) >= 2
    for name, block in blocks:
        assert block.strip() in (ROOT / "examples" / "ledger" / name).read_text(), f"not in {name}:\n{block}"


def test_the_page_names_every_fault() -> None:
    page = (ROOT / "docs" / "testing.md").read_text()
    assert [kind.__name__ for kind in faults.ALL if f"`{kind.__name__}(" not in page] == []
