"""SIGHUP: the end where it comes with the loss of the terminal, a reload where it does not."""

from __future__ import annotations

import os
import select
import signal
import sys
from pathlib import Path

from support.runtime import application, write_application
from support.waiting import wait_until

COMMAND = Path(sys.executable).with_name("wsrelay")


def test_the_terminal_is_gone(tmp_path: Path) -> None:
    write_application(tmp_path / "app", application(), {})
    log = tmp_path / "log"
    os_pid, terminal = os.forkpty()
    if os_pid == 0:
        errors = os.open(log, os.O_WRONLY | os.O_CREAT, 0o600)
        os.dup2(errors, 2)
        environment = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)}
        os.execve(COMMAND, [str(COMMAND), "run", str(tmp_path / "app")], environment)
    ended = os.pidfd_open(os_pid)
    try:
        wait_until(lambda: "serving" in log.read_text() if log.exists() else False)
        os.kill(os_pid, signal.SIGHUP)
        wait_until(lambda: "reloaded in" in log.read_text(), message=log.read_text)
        os.close(terminal)
        terminal = -1
        wait_until(lambda: bool(select.select([ended], [], [], 0)[0]), message=log.read_text)
    finally:
        if terminal >= 0:
            os.close(terminal)
        signal.pidfd_send_signal(ended, signal.SIGKILL)
        os.close(ended)
        _, status = os.waitpid(os_pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert "stopped in" in log.read_text()
