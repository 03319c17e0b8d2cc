"""What an operator asks a real runtime from the command line, and who may ask (S37, S39)."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.reloading import BASE, COMMAND, ask, service, source
from support.runtime import PROCESSES, Runtime, running_runtime, write_application
from support.waiting import wait_until
from wsrelay.kernel.shell.control import SILENCE
from wsrelay.kernel.shell.control import connect as connect_to


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[Runtime]:
    with running_runtime(tmp_path, [*BASE, service()], source("one")) as running:
        yield running


def test_starting_and_stopping_a_service(runtime: Runtime) -> None:  # S37, S39
    assert ask(runtime, "stop", "app:served.service", str(runtime.folder)).returncode == 0
    wait_until(lambda: "service app:served.service: stopped" in ask(runtime, "status").stdout)
    refused = ask(runtime, "restart", "app:served.service")
    assert (refused.returncode, "is stopped" in refused.stderr) == (1, True)
    assert ask(runtime, "start", "app:served.service").returncode == 0
    wait_until(lambda: "service app:served.service: running" in ask(runtime, "status").stdout)
    assert "restarted, running" in ask(runtime, "restart", "app:served.service").stdout
    unknown = ask(runtime, "start", "app:nothing")
    assert (unknown.returncode, "app:nothing" in unknown.stderr) == (1, True)


def test_nobody_to_ask(tmp_path: Path) -> None:
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)}
    asked = subprocess.run([COMMAND, "status"], env=environment, capture_output=True, text=True, check=False)
    assert asked.returncode == 1
    assert "no runtime" in asked.stderr


def test_several_runtimes_to_ask(runtime: Runtime, tmp_path: Path) -> None:
    with contextlib.ExitStack() as others:
        write_application(tmp_path / "second", [PROCESSES], {})
        second = Runtime(tmp_path / "second", {"XDG_RUNTIME_DIR": str(runtime.temporary)})
        others.callback(second.kill)
        others.callback(second.process.wait, 60)
        others.callback(second.process.terminate)
        wait_until(lambda: "ready: no http.service" in second.log(), message=second.log)
        asked = ask(runtime, "status")
        assert asked.returncode == 1
        assert "say which configuration" in asked.stderr
        for served in (runtime.folder, tmp_path / "second"):
            assert f"\n  {served} (os process " in asked.stderr
        assert "1 processes" in ask(runtime, "status", str(runtime.folder)).stdout


def test_a_release_is_known_by_its_link_and_by_where_it_was(tmp_path: Path) -> None:
    releases = [tmp_path / "one", tmp_path / "two"]
    for number, folder in enumerate(releases):
        write_application(folder, [*BASE, service()], source(str(number)))
    link = tmp_path / "current"
    link.symlink_to("one")
    with contextlib.ExitStack() as ends:
        runtime = Runtime(link)
        ends.callback(runtime.kill)
        ends.callback(runtime.process.wait, 60)
        ends.callback(runtime.process.terminate)
        runtime.wait_ready()
        assert ask(runtime, "status", str(releases[0])).returncode == 0
        link.unlink()
        link.symlink_to("two")
        reloaded = ask(runtime, "reload", str(link))
        assert (reloaded.returncode, "app:served.service: restarted" in reloaded.stdout) == (0, True), reloaded.stderr
        refused = ask(runtime, "status", str(tmp_path / "three"))
        assert (refused.returncode, "no runtime" in refused.stderr) == (1, True)


def test_who_removes_what_is_old_leaves_the_control_socket_alone(runtime: Runtime) -> None:
    descriptor = os.open(runtime.temporary / "wsrelay", os.O_RDONLY)
    try:
        with pytest.raises(BlockingIOError):  # systemd-tmpfiles removes nothing where it gets no lock
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.close(descriptor)


AS_NOBODY = """
import os, pathlib, pwd, sys
from wsrelay.kernel.shell import operator
os.setgroups([])
os.setuid(pwd.getpwnam("nobody").pw_uid)
sys.exit(operator.ask(pathlib.Path(sys.argv[1]), [], {"command": "status"}))
"""
"""The Python may be where only its owner can read it: so this becomes nobody when it has imported everything."""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("closed", ["the folder", "what the folder is in", "the socket", "nothing"])
def test_who_may_not_ask_is_told_who_may(runtime: Runtime, closed: str) -> None:
    directory = runtime.temporary / "wsrelay"
    [path] = directory.iterdir()
    open_to_all = [*directory.parents, *([] if closed == "the folder" else [directory])]
    for folder in open_to_all:
        if folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o055)
    if closed == "what the folder is in":
        directory.parent.chmod(0o700)
    path.chmod(0o777 if closed == "nothing" else 0o700)
    command = [sys.executable, "-c", AS_NOBODY, directory]
    asked = subprocess.run(command, capture_output=True, text=True, check=False)
    told = {
        "the folder": f"permission denied: {directory} is of the user root: ask as that user or as root",
        "what the folder is in": f"permission denied: {directory} is in a folder that this user may not enter",
        "the socket": f"permission denied: {path} is of the user root: ask as that user or as root",
        "nothing": "permission denied: the runtime is of the user root, and answers only that user and root",
    }
    assert (asked.returncode, told[closed] in asked.stderr) == (1, True), asked.stderr


def test_a_runtime_that_does_not_answer(runtime: Runtime) -> None:
    os.kill(runtime.supervisor, signal.SIGSTOP)
    try:
        asked = ask(runtime, "status")
    finally:
        os.kill(runtime.supervisor, signal.SIGCONT)
    assert asked.returncode == 3
    assert f"the runtime (os process {runtime.supervisor}) has not answered for 5 s" in asked.stderr
    assert ask(runtime, "status").returncode == 0


def test_an_answer_may_take_longer_than_a_silence(tmp_path: Path) -> None:
    with running_runtime(tmp_path, [*BASE, service("deaf", "deaf", stop_timeout="6s")], source("one")) as runtime:
        assert SILENCE < 6
        restarted = ask(runtime, "restart", "app:deaf.service")
        assert (restarted.returncode, "restarted, running" in restarted.stdout) == (0, True), restarted.stderr


def test_a_command_too_many_is_told_so(runtime: Runtime) -> None:
    [path] = (runtime.temporary / "wsrelay").iterdir()
    with contextlib.ExitStack() as lines:
        for _ in range(16):
            connect_to(lines.enter_context(socket.socket(socket.AF_UNIX)), path)
        refused = ask(runtime, "status")
        assert (refused.returncode, "commands are under way" in refused.stderr) == (1, True), refused.stderr
    wait_until(lambda: ask(runtime, "status").returncode == 0)
    assert "the control socket: the user" not in runtime.log()


def test_the_control_socket_is_for_its_user_alone(runtime: Runtime) -> None:
    [path] = (runtime.temporary / "wsrelay").iterdir()
    assert path.parent.stat().st_mode & 0o777 == 0o700
    for sent in (b"\n", b"[]\n", b'{"command": "dance"}\n', b"x" * 70_000, b"["[:1] * 60_000 + b"\n", b""):
        with socket.socket(socket.AF_UNIX) as line:
            connect_to(line, path)
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                line.sendall(sent)
                line.shutdown(socket.SHUT_WR)
                line.recv(4096)
    assert ask(runtime, "status").returncode == 0
    if os.geteuid() == 0:
        path.parent.chmod(0o777)
        path.chmod(0o777)
        stranger = os.fork()
        if stranger == 0:
            answered = 0
            with contextlib.suppress(BaseException):
                os.chdir(path.parent)
                os.setuid(65534)
                line = socket.socket(socket.AF_UNIX)
                line.connect(path.name)
                line.sendall(b'{"command": "status"}\n')
                answered = len(line.recv(9))
            os._exit(answered)
        assert os.waitstatus_to_exitcode(os.waitpid(stranger, 0)[1]) == 0
        wait_until(lambda: "the user 65534" in runtime.log())
