"""What a signal leaves of `tools/bench`: nothing. Real signals, in the real program."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.hygiene import tagged_processes
from support.waiting import wait_until

TOOLS = Path(__file__).resolve().parents[2] / "tools"
MARK = "WSRELAY_BENCHMARK_TEST"
GENERATOR = "load/generator-"
"""In the command line of the process that makes the load."""
BEREAVED = """
import subprocess, sys, tempfile
from benchmark import interruption

def perform():
    tempfile.mkdtemp()
    subprocess.run(["/bin/sh", "-c", "setsid sleep 1000 & setsid sleep 1000 &"])
    print("ready", flush=True)
    sys.stdin.read()
    return 0

sys.exit(interruption.contained(perform))
"""
"""Starts processes whose parent ends, and that nobody has noted."""


@dataclass(frozen=True)
class Started:
    """A program in a process group of its own, as a shell starts it, with temporary files and a mark of its own."""

    process: subprocess.Popen[str]
    mark: str
    temporary: Path

    def commands(self) -> list[str]:
        """The command lines of what it has started, and its own."""
        return list(tagged_processes(MARK, self.mark).values())

    def loads(self) -> bool:
        """Whether a server is being measured."""
        return any(GENERATOR in command for command in self.commands())

    def wait_until_ready(self) -> None:
        """Until it says so."""
        assert self.process.stdout
        assert self.process.stdout.readline() == "ready\n"

    def send(self, number: int) -> None:
        """As a terminal does it: to the whole group."""
        os.killpg(self.process.pid, number)

    def left(self) -> list[str]:
        """What is there after its end."""
        return self.commands() + [str(path) for path in self.temporary.iterdir()]


@contextlib.contextmanager
def started(arguments: Sequence[str], temporary: Path) -> Iterator[Started]:
    """Run Python with these arguments."""
    mark = secrets.token_hex(8)
    environment = {**os.environ, "PYTHONPATH": str(TOOLS), "TMPDIR": str(temporary), MARK: mark}
    # Who starts the tests may ignore signals.
    command = ["env", "--default-signal", sys.executable, *arguments]
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        command, env=environment, stdin=pipe, stdout=pipe, stderr=pipe, text=True, start_new_session=True
    )
    try:
        with process:
            try:
                yield Started(process, mark, temporary)
            finally:
                process.kill()
    finally:
        for os_pid in tagged_processes(MARK, mark):
            with contextlib.suppress(ProcessLookupError):
                os.kill(os_pid, signal.SIGKILL)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_nothing(number: signal.Signals, tmp_path: Path) -> None:
    arguments = ["-m", "benchmark", "echo-one", "--quick", "--seconds", "60", "--server", "wsrelay"]
    with started(arguments, tmp_path) as bench:
        wait_until(bench.loads, 60)
        bench.send(number)
        _, said = bench.process.communicate(timeout=60)
        assert bench.process.returncode == 128 + number
        assert said == f"interrupted by {number.name}: everything is stopped\n"
        assert bench.left() == []


@pytest.mark.skipif(not (Path(sys.executable).parent / "py-spy").exists(), reason="there is no py-spy")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_while_a_profile_is_sampled_leaves_nothing(number: signal.Signals, tmp_path: Path) -> None:
    with started(["-m", "benchmark", "profile"], tmp_path) as bench:
        wait_until(lambda: bench.loads() and sum("py-spy" in command for command in bench.commands()) == 2, 60)
        bench.send(number)
        _, said = bench.process.communicate(timeout=60)
        assert bench.process.returncode == 128 + number
        assert said == f"interrupted by {number.name}: everything is stopped\n"
        assert bench.left() == []


@pytest.mark.parametrize("another", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_second_signal_leaves_nothing(another: signal.Signals, tmp_path: Path) -> None:
    """It comes while the servers are being stopped, which is after the load."""
    arguments = ["-m", "benchmark", "echo-one", "--quick", "--seconds", "60", "--server", "wsrelay"]
    with started(arguments, tmp_path) as bench:
        wait_until(bench.loads, 60)
        bench.send(signal.SIGINT)
        wait_until(lambda: not bench.loads())
        bench.send(another)
        _, said = bench.process.communicate(timeout=60)
        # Where the program is put off the processor, both signals wait for it, and Python takes the lower number first.
        first = signal.Signals(bench.process.returncode - 128)
        assert first in {signal.SIGINT, another}
        assert said == f"interrupted by {first.name}: everything is stopped\n"
        assert bench.left() == []


def test_what_nobody_has_noted_is_ended_too(tmp_path: Path) -> None:
    """As what was being started when the signal came."""
    with started(["-c", BEREAVED], tmp_path) as program:
        program.wait_until_ready()
        assert len(program.left()) >= 4  # itself, two others, and a folder
        program.process.send_signal(signal.SIGTERM)
        assert program.process.wait(30) == 128 + signal.SIGTERM
        assert program.left() == []


def test_a_signal_that_is_ignored_stays_ignored(tmp_path: Path) -> None:
    """As SIGHUP under `nohup`."""
    with started(
        ["-c", f"import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n{BEREAVED}"], tmp_path
    ) as program:
        program.wait_until_ready()
        program.process.send_signal(signal.SIGHUP)
        program.process.communicate(timeout=30)
        assert program.process.returncode == 0
        assert program.left() == []
