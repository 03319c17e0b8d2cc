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


PRELUDE = '''
import os
import pytest
from hypothesis import given, settings, strategies as st
from wsrelay.tools import faults
from wsrelay.tools.faults import strategies

os.chdir({root!r})
APPLICATION = """
    from wsrelay.tools.faults import point
    from wsrelay.workers import http, process

    def connect():
        http.response().relay_to(process.spawn("app:echo", "app:processes"))

    def calm():
        http.response().relay_to(process.spawn("app:bystander", "app:processes"))

    def echo(point=point):
        for message in process.inbox():
            if message.topic == "ws.message":
                point("received")
                process.send(message.sender, "ws.send", {{"data": message.payload["data"]}})
                point("answered")
            elif message.topic == "ws.leave":
                return

    def bystander():
        echo(lambda name: None)
"""

@pytest.fixture(scope="module")
def runtime():
    entries = faults.application(
        faults.endpoint("/echo", "connect"), faults.endpoint("/calm", "calm"), faults.actor("echo"), faults.actor("bystander")
    )
    with faults.running_runtime(entries, {{"app.py": APPLICATION}}) as running:
        yield running
'''


def test_the_tests_on_the_page_pass(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "testing.md").read_text()
    blocks = [block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "\ndef test_" in f"\n{block}"]
    assert len(blocks) == 3
    (tmp_path / "test_page.py").write_text(PRELUDE.format(root=str(ROOT)) + "\n".join(blocks))
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "WSRELAY"))}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--hypothesis-seed=1", "-q", "-W", "error"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert "\n3 passed" in done.stdout, done.stdout


def test_the_page_names_every_fault() -> None:
    page = (ROOT / "docs" / "testing.md").read_text()
    assert [kind.__name__ for kind in faults.ALL if f"`{kind.__name__}(" not in page] == []
