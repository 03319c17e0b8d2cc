"""`tools/environment`: what a signal during an installation leaves, and what the next start makes of it. Real shells and signals; pip
and venv are played by a script."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.hygiene import tagged_processes
from support.waiting import wait_until

TOOL = Path(__file__).resolve().parents[2] / "tools" / "environment"
MARK = "WSRELAY_ENVIRONMENT_TEST"
PYTHON = f"""#!/bin/sh
case "$*" in
"-m venv "*) mkdir -p "$3/bin"; cp "$0" "$3/bin/python" ;;
"-m pip install "*) ;;
"-c "*) exec {sys.executable} "$@" ;;
*) exit 0 ;;
esac
[ "$1" = -m ] && echo "$2" >>"$WSRELAY_TEST_FOLDER/did"
if [ "$(cat "$WSRELAY_TEST_FOLDER/blocks")" = "$2" ]; then
    : >"${{TMPDIR:-/tmp}}/of-$2"
    sleep 1000 &
    wait
fi
"""


class Tree:
    """A tree with `tools/environment`, and a Python that notes what it is asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.mark = secrets.token_hex(8)
        self.temporary = folder / "temporary"
        for name in ("tools", "temporary"):
            (folder / name).mkdir()
        for name in ("setup.cfg", "pyproject.toml", "blocks", "did"):
            (folder / name).write_text("")
        shutil.copy(TOOL, folder / "tools")
        (folder / "python").write_text(PYTHON)
        (folder / "python").chmod(0o755)

    def start(self, extras: str) -> subprocess.Popen[str]:
        environment = {
            **os.environ,
            "PYTHON": str(self.folder / "python"),
            "TMPDIR": str(self.temporary),
            "WSRELAY_TEST_FOLDER": str(self.folder),
            MARK: self.mark,
        }
        script = 'set -eu; . "$1"; ensure_installed "$2"'
        command = ["bash", "-c", script, "bash", str(self.folder / "tools" / "environment"), extras]
        return subprocess.Popen(
            ["env", "--default-signal", *command],
            env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip

    def install(self, extras: str) -> list[str]:
        """Prepare it; what was done for that."""
        (self.folder / "blocks").write_text("")
        before = len(self.done())
        with self.start(extras) as process:
            _, said = process.communicate(timeout=30)
        assert process.returncode == 0, said
        return self.done()[before:]

    def interrupt(self, extras: str, during: str, number: int, *, group: bool) -> int:
        """Send a signal while `pip` or `venv` is at work. Returns how it ended."""
        (self.folder / "blocks").write_text(during)
        with self.start(extras) as process:
            wait_until(lambda: any("sleep" in command for command in self.processes()), 30)
            (os.killpg if group else os.kill)(process.pid, number)
            process.communicate(timeout=30)
        return process.returncode

    def done(self) -> list[str]:
        return (self.folder / "did").read_text().split()

    def processes(self) -> list[str]:
        return list(tagged_processes(MARK, self.mark).values())


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Any]:
    made = Tree(tmp_path)
    yield made
    for os_pid in tagged_processes(MARK, made.mark):
        os.kill(os_pid, signal.SIGKILL)


@pytest.mark.parametrize("group", [True, False])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("during", ["pip", "venv"])
def test_a_signal_during_an_installation_leaves_nothing_that_runs_or_is_taken_for_whole(
    tree: Tree, during: str, number: signal.Signals, group: bool
) -> None:
    assert tree.interrupt("speed", during, number, group=group) == -number
    wait_until(lambda: tree.processes() == [], message=lambda: str(tree.processes()))
    assert list(tree.temporary.iterdir()) == []
    assert list((tree.folder / ".venv").rglob("of-*")) == []
    assert tree.install("speed") == (["pip"] if during == "pip" else ["venv", "pip"])
    assert tree.install("speed") == []


def test_what_was_whole_before_an_interrupted_installation_is_not_taken_for_it(tree: Tree) -> None:
    assert tree.install("speed") == ["venv", "pip"]
    tree.interrupt("speed,test", "pip", signal.SIGTERM, group=True)
    assert tree.install("speed") == ["pip"]
    assert tree.install("speed,test") == ["pip"]
    assert tree.install("speed") == tree.install("speed,test") == []


@pytest.mark.parametrize("arguments", [["--help"], ["--root"], ["--root", "/", "--load"]])
def test_an_option_that_systemd_test_does_not_know_starts_nothing(arguments: list[str]) -> None:
    done = subprocess.run(
        [TOOL.with_name("systemd-test"), *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert "tools/systemd-test NAME" in done.stderr
    assert done.stdout == ""
