"""When the supervisor dies, or its guardian: nothing is left (S40). What signals and terminals say to them comes once."""

from __future__ import annotations

import contextlib
import os
import pty
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from support.clients import line_is_lost
from support.puppet import PUPPET_ENTRIES, PUPPET_SOURCES, Puppet
from support.runtime import MARK, Runtime, running_runtime, write_application
from support.waiting import wait_until

ENTRIES = [{**PUPPET_ENTRIES[0], "timeouts": {"close": "1s"}}, *PUPPET_ENTRIES[1:]]


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[Runtime]:
    with running_runtime(tmp_path, ENTRIES, PUPPET_SOURCES) as running:
        yield running


TREE = """
def tree(daemon):
    if os.fork() == 0:
        if daemon:
            os.setsid()
            if os.fork() != 0:
                os._exit(0)
        for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(n, signal.SIG_IGN)
        if os.fork() == 0:
            os.setsid()
            os.kill(os.getpid(), signal.SIGSTOP)
        while True:
            signal.pause()
tree(False)
tree(True)
os.environ.clear()
"""


def grow_tree(runtime: Runtime, puppet: Puppet) -> set[int]:
    """Leave children and grandchildren in sessions of their own, stopped ones too. Returns everybody, when all are there."""
    before = len(runtime.processes())
    puppet.order(TREE)
    puppet.answer()
    wait_until(lambda: len(runtime.processes()) == before + 4, message=lambda: str(runtime.processes()))
    wait_until(lambda: sum(state_of(os_pid) == "T" for os_pid in runtime.processes()) == 2)
    return set(runtime.processes())


def state_of(os_pid: int) -> str:
    """One letter, as in proc(5); empty if there is none."""
    try:
        return Path(f"/proc/{os_pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT])
def test_nothing_outlives_the_supervisor(runtime: Runtime, number: int) -> None:
    # S40: stopped ones and those that moved to another session included
    with Puppet(runtime) as one, Puppet(runtime) as stopped:
        everybody = grow_tree(runtime, one)
        os.kill(stopped.os_pid, signal.SIGSTOP)
        os.kill(runtime.supervisor, number)
        wait_until(lambda: runtime.process.poll() is not None, message=runtime.log)
        # At once: when the guardian has ended there is nobody.
        assert {os_pid for os_pid in everybody if state_of(os_pid)} == set()
        assert runtime.process.returncode == 128 + number
        assert line_is_lost(one.connection)
    assert f"the supervisor was ended by {number.name}" in runtime.log()  # type: ignore[attr-defined]


@pytest.mark.parametrize("stopped", [False, True], ids=["awake", "stopped"])
def test_nothing_outlives_the_guardian(runtime: Runtime, stopped: bool) -> None:
    # S40: its death is seen by the supervisor, which leaves nothing; one that was stopped is woken for it
    with Puppet(runtime) as one:
        everybody = grow_tree(runtime, one)
        if stopped:
            os.kill(runtime.supervisor, signal.SIGSTOP)
        runtime.process.kill()
        wait_until(lambda: runtime.process.poll() is not None)
        wait_until(lambda: not [os_pid for os_pid in everybody if state_of(os_pid) not in ("", "Z")])
    assert "is gone: stopping at once" in runtime.log()


def test_a_stopped_supervisor_is_woken_by_the_guardian_s_death(tmp_path: Path) -> None:
    # S40: also where the kernel does not wake it, because whoever takes it over is of its session
    folder, log = tmp_path / "application", tmp_path / "log"
    write_application(folder, PUPPET_ENTRIES, PUPPET_SOURCES)
    subreaper = """
import ctypes, os, subprocess, sys
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
subprocess.Popen(sys.argv[1:], process_group=0)
while True:
    try:
        os.wait()
    except ChildProcessError:
        break
"""
    command = [sys.executable, "-c", subreaper, str(Path(sys.executable).with_name("wsrelay")), "run", str(folder)]
    with log.open("wb") as output:
        started = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
    everybody = [psutil.Process(started.pid)]
    try:
        wait_until(lambda: "serving" in log.read_text(), 30.0, log.read_text)
        [guardian] = psutil.Process(started.pid).children()
        [supervisor] = guardian.children()
        everybody += everybody[0].children(recursive=True)
        supervisor.suspend()
        wait_until(lambda: supervisor.status() == psutil.STATUS_STOPPED)
        guardian.kill()
        wait_until(lambda: started.poll() is not None, 30.0, log.read_text)
        assert [one for one in everybody if one.is_running()] == []
    finally:
        for one in reversed(everybody):
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
        started.wait()
    assert "is gone: stopping at once" in log.read_text()


def test_the_next_boot_is_another_epoch(tmp_path: Path) -> None:
    # S1, S40: the address is free again, and nobody answers for the dead
    with running_runtime(tmp_path, ENTRIES, PUPPET_SOURCES) as runtime, Puppet(runtime) as one:
        os.kill(runtime.supervisor, signal.SIGKILL)
        wait_until(lambda: runtime.process.poll() is not None)
    with running_runtime(tmp_path, ENTRIES, PUPPET_SOURCES) as runtime, Puppet(runtime) as two:
        assert one.pid.split(".")[0] != two.pid.split(".")[0]
        two.do("process.monitor(pid)", pid=one.pid)
        assert two.event()["kind"] == "noproc"


def test_ctrl_c_in_a_terminal_comes_once(tmp_path: Path) -> None:
    # S40: the guardian is in the terminal's foreground group, and the supervisor is not
    folder = tmp_path / "application"
    write_application(folder, PUPPET_ENTRIES, PUPPET_SOURCES)
    command = str(Path(sys.executable).with_name("wsrelay"))
    os_pid, terminal = pty.fork()
    if os_pid == 0:
        os.environ[MARK] = "terminal"
        os.execv(command, [command, "run", str(folder)])
    output = bytearray()

    def read() -> bytearray:
        with contextlib.suppress(OSError):  # EIO: everybody has closed the other end
            output.extend(os.read(terminal, 4096))
        return output

    try:
        wait_until(lambda: b"serving" in read())
        os.write(terminal, b"\x03")
        wait_until(lambda: os.waitid(os.P_PID, os_pid, os.WEXITED | os.WNOHANG | os.WNOWAIT))
        _, status = os.waitpid(os_pid, 0)
        while b"stopping" not in output:
            read()
    finally:
        os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == 0
    assert output.count(b"stopping") == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1])
def test_a_signal_comes_before_the_supervisor_listens(tmp_path: Path, number: int) -> None:
    folder, log = tmp_path / "application", tmp_path / "log"
    write_application(folder, PUPPET_ENTRIES, PUPPET_SOURCES)
    wsrelay = str(Path(sys.executable).with_name("wsrelay"))
    command = [wsrelay, "run", "--run-directory", str(tmp_path / "run"), str(folder)]

    def run() -> None:
        with log.open("wb") as output:
            started = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        try:
            children = Path(f"/proc/{started.pid}/task/{started.pid}/children")
            while not children.read_text() and started.poll() is None:
                pass
            started.send_signal(number)
            if number not in (signal.SIGTERM, signal.SIGINT):
                wait_until(lambda: "serving" in log.read_text() or started.poll() is not None, 30.0, log.read_text)
                started.terminate()
            assert started.wait(30) == 0, log.read_text()
        finally:
            started.kill()
            started.wait()
        assert "ERROR" not in log.read_text()
        assert "Traceback" not in log.read_text()

    for _ in range(8):  # how far it is when the signal comes is for the machine to say
        run()


def test_a_signal_to_all_processes_of_a_service_is_one(runtime: Runtime) -> None:
    # systemd's KillMode=control-group: the guardian hands on what the supervisor was told already
    for os_pid in (runtime.process.pid, runtime.supervisor):
        os.kill(os_pid, signal.SIGTERM)
    assert runtime.stop() == 0
    assert "stopping" in runtime.log()
    assert "at once" not in runtime.log()


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("unshare"), reason="needs root and unshare")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGKILL, 128 + signal.SIGKILL)])
def test_as_pid_1(tmp_path: Path, number: int, code: int) -> None:
    # A container's first process: no signal acts by default there, and every orphan comes to it
    folder, log = tmp_path / "application", tmp_path / "log"
    write_application(folder, PUPPET_ENTRIES, PUPPET_SOURCES)
    command = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
    command += [str(Path(sys.executable).with_name("wsrelay")), "run", str(folder)]
    with log.open("wb") as output:
        started = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        wait_until(lambda: started.poll() is not None or "serving" in log.read_text(), 30.0)
        if started.poll() is not None and "unshare" in log.read_text():
            pytest.skip(log.read_text())
        [guardian] = children_of(started.pid)
        [supervisor] = children_of(guardian)
        os.kill(guardian if number == signal.SIGTERM else supervisor, number)
        assert started.wait(30) == code, log.read_text()
    finally:
        started.kill()
        started.wait()


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("unshare"), reason="needs root and unshare")
@pytest.mark.parametrize(("does", "code"), [("run", 0), ("check", 128 + signal.SIGTERM)])
def test_pid_1_ends_though_it_has_not_started(tmp_path: Path, does: str, code: int) -> None:
    folder, log = tmp_path / "application", tmp_path / "log"
    many = [{**PUPPET_ENTRIES[-1], "name": f"more{number}"} for number in range(4000)]  # the check takes a while
    write_application(folder, [*PUPPET_ENTRIES, *many], PUPPET_SOURCES)
    command = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
    command += [str(Path(sys.executable).with_name("wsrelay")), does, str(folder)]
    with log.open("wb") as output:
        started = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)

    def listens(os_pid: int) -> bool:
        """Whether it has a handler for SIGTERM, or blocks it as the guardian does."""
        status = dict(line.split(":\t", 1) for line in Path(f"/proc/{os_pid}/status").read_text().splitlines())
        return bool((int(status["SigCgt"], 16) | int(status["SigBlk"], 16)) >> (signal.SIGTERM - 1) & 1)

    try:
        wait_until(lambda: started.poll() is not None or children_of(started.pid))
        if started.poll() is not None and "unshare" in log.read_text():
            pytest.skip(log.read_text())
        [first] = children_of(started.pid)
        while not listens(first) and "serving" not in log.read_text():
            pass
        os.kill(first, signal.SIGTERM)
        assert started.wait(30) == code, log.read_text()
        assert log.read_text() == ""
    finally:
        started.kill()
        started.wait()


def children_of(os_pid: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and (entry / "stat").read_text().rpartition(")")[2].split()[1] == str(os_pid):
                found.append(int(entry.name))
    return found
