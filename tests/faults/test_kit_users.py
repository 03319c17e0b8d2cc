"""Hosts with a `user` of their own: their workers come to all that they need in the kit's folders, or it is said what is closed."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from wsrelay.tools import faults
from wsrelay.tools.faults import Raise, Runtime
from wsrelay.tools.faults.applications import write_application

APP = """
    import os, pwd, tempfile
    from wsrelay.tools.faults import point
    from wsrelay.workers import http, process

    def connect():
        http.response().relay_to(process.spawn("app:who", "app:processes"))

    def who():
        for message in process.inbox():
            if message.topic == "ws.message":
                point("asked")
                with tempfile.NamedTemporaryFile(delete=message.payload["data"] != "leave") as file:
                    answer = f"{pwd.getpwuid(os.geteuid()).pw_name} {os.path.dirname(file.name)}"
                process.send(message.sender, "ws.send", {"data": answer})
            elif message.topic == "ws.leave":
                return
"""
ENTRIES = faults.application(faults.endpoint("/who", "connect"), faults.actor("who"))
ENTRIES[1]["user"] = "nobody"


# As a fork server does: what it has imported stays; what the application imports is read by nobody.
PROBE = """
import os, pwd
import wsrelay.workers.shell.host
entry = pwd.getpwnam("nobody")
os.setgroups([])
os.setresgid(entry.pw_gid, entry.pw_gid, entry.pw_gid)
os.setresuid(entry.pw_uid, entry.pw_uid, entry.pw_uid)
import tempfile
from wsrelay.tools.faults import point
from wsrelay.workers import http, process
point("asked")
"""


def why_nobody_cannot() -> str:
    """Why a worker of `nobody` cannot run here; empty if it can."""
    if os.geteuid() != 0:
        return "only root can change the user"
    done = subprocess.run([sys.executable, "-c", PROBE], cwd="/", capture_output=True, text=True, check=False)
    return f"nobody cannot use this Python: {done.stderr.strip().splitlines()[-1]}" if done.returncode else ""


REASON = why_nobody_cannot()
pytestmark = pytest.mark.skipif(bool(REASON), reason=REASON or "nobody can")


def ask(runtime: Runtime, text: str = "who") -> str:
    """What a worker says of its user, and of its temporary folder."""
    with runtime.connect("/who") as client:
        client.send(text)
        return str(client.recv(timeout=15))


def check_all_of_it(runtime: Runtime) -> None:
    """The worker is nobody's, has the kit's temporary folder, and reaches points."""
    assert ask(runtime) == f"nobody {runtime.temporary}"
    with runtime.armed("asked", Raise("x"), required=True), runtime.connect("/who") as client:
        client.send("who")
        faults.check_truth(client, Raise("x"))


def test_the_folder_of_the_kit_is_open() -> None:
    before = os.umask(0o077)
    try:
        with faults.running_runtime(ENTRIES, {"app.py": APP}) as runtime:
            check_all_of_it(runtime)
            assert runtime.folder.parent.stat().st_mode & 0o777 == 0o711
    finally:
        os.umask(before)


def test_the_fixture(wsrelay_runtime: Callable[..., Runtime], tmp_path: Path) -> None:
    runtime = wsrelay_runtime(ENTRIES, {"app.py": APP})
    check_all_of_it(runtime)
    assert tmp_path not in runtime.folder.parents
    assert tmp_path in wsrelay_runtime(faults.application()).folder.parents


def test_an_application_in_a_closed_folder_is_copied(tmp_path: Path) -> None:
    write_application(tmp_path, ENTRIES, {"app.py": APP})
    tmp_path.chmod(0o700)
    with faults.running_runtime(tmp_path) as runtime:
        assert ask(runtime).startswith("nobody ")


def test_a_closed_folder_is_named() -> None:
    with tempfile.TemporaryDirectory() as closed:
        inside = Path(closed, "inside")
        inside.mkdir()
        complaint = rf"the folder {closed} is closed to nobody, whom app:processes runs as: its mode is 0700"
        with pytest.raises(PermissionError, match=complaint), faults.running_runtime(ENTRIES, {}, folder=inside):
            pass
        Path(closed).chmod(0o711)
        with faults.running_runtime(ENTRIES, {"app.py": APP}, folder=inside) as runtime:
            check_all_of_it(runtime)


def test_what_another_user_leaves_is_seen() -> None:
    with (
        pytest.raises(AssertionError, match="temporary files are left"),
        faults.running_runtime(ENTRIES, {"app.py": APP}) as runtime,
    ):
        ask(runtime, "leave")
