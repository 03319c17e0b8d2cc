"""What confines the workers of a host: each is stopped by its own limit, and the others are not disturbed; the sandbox, the private
temporary folder, the environment, the user. With real processes and the real kernel. (What a cgroup does is tested on a plain folder, in
tests/kernel/shell.)"""

from __future__ import annotations

import os
import pwd
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from support.limited import LIMITED, confined, entries, scene
from support.puppet import PUPPET_SOURCES, Puppet, PuppetError
from support.runtime import Runtime, actor, running_runtime, write_application
from support.waiting import wait_until
from wsrelay.kernel.core.enforcement import SANDBOX_ABI, SIGNALS_ABI
from wsrelay.kernel.shell.machine import landlock_abi

needs_landlock = pytest.mark.skipif(landlock_abi() < SANDBOX_ABI, reason=f"needs Landlock with ABI {SANDBOX_ABI}")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can change the user")

# --- limits -----------------------------------------------------------------------------------------------------------


def test_a_worker_that_forks_without_end(tmp_path: Path) -> None:
    # S16, S18: limit:processes, and nothing of the bomb is left (running_runtime looks)
    with confined(tmp_path, limits={"processes": 12}) as runtime, scene(runtime) as on:
        on.bystander.do("for _ in range(8):\n    if os.fork() == 0: signal.pause()")
        on.culprit.order("while True:\n    try: os.fork()\n    except OSError: pass")
        on.check_only_the_culprit_ends("limit:processes")
        wait_until(lambda: "limits.processes is 12" in runtime.log(), message=runtime.log)


def test_threads_count_as_processes(tmp_path: Path) -> None:
    # S18
    with confined(tmp_path, limits={"processes": 12}) as runtime, scene(runtime) as on:
        on.culprit.order(
            "import threading\nwhile True: threading.Thread(target=threading.Event().wait, daemon=True).start()"
        )
        on.check_only_the_culprit_ends("limit:processes")


@pytest.mark.parametrize("how", ["named", "deleted"])
def test_a_worker_that_fills_its_temporary_folder(tmp_path: Path, how: str) -> None:
    # S18: limit:disk; a file without a name takes room too
    with confined(tmp_path, limits={"disk": "2MiB"}, private_tmp=True) as runtime, scene(runtime) as on:
        on.bystander.do("import tempfile\nfile = tempfile.TemporaryFile()\nfile.write(b'x' * (1 << 20))\nfile.flush()")
        delete = "os.unlink(file.name)" if how == "deleted" else ""
        on.culprit.order(
            "import tempfile\nfile = tempfile.NamedTemporaryFile(delete=False)\n"
            f"{delete}\nfile.write(b'x' * (4 << 20))\nfile.flush()\nwhile True: signal.pause()"
        )
        on.check_only_the_culprit_ends("limit:disk")
        wait_until(lambda: "limits.disk (2048 KiB)" in runtime.log(), message=runtime.log)


@pytest.mark.parametrize(("name", "depth"), [("d" * 50, 90), ("d", 1900)], ids=["no path leads there", "long paths"])
def test_a_file_at_any_depth_of_the_temporary_folder(tmp_path: Path, name: str, depth: int) -> None:
    # S18: limit:disk; and all of it is removed
    place = tmp_path / "temporary"
    place.mkdir()
    with (
        confined(tmp_path, {"TMPDIR": str(place)}, limits={"disk": "32MiB"}, private_tmp=True) as runtime,
        scene(runtime) as on,
    ):
        (base,) = place.iterdir()
        on.culprit.order(
            f"os.chdir(os.environ['TMPDIR'])\nfor _ in range({depth}): os.mkdir({name!r}), os.chdir({name!r})\n"
            "file = open('file', 'wb')\nfile.write(b'x' * (40 << 20))\nfile.flush()\nwhile True: signal.pause()"
        )
        on.check_only_the_culprit_ends("limit:disk")
        wait_until(lambda: len(list(base.iterdir())) == 1)  # the bystander's
    assert list(place.iterdir()) == []


# --- the private temporary folder -------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["return", "SIGKILL of the worker", "SIGKILL of the supervisor"])
def test_a_temporary_folder_goes_with_its_worker(tmp_path: Path, how: str) -> None:
    place = tmp_path / "temporary"
    place.mkdir()
    with (
        confined(tmp_path, {"TMPDIR": str(place)}, private_tmp=True) as runtime,
        Puppet(runtime, LIMITED) as one,
        Puppet(runtime, LIMITED) as two,
    ):
        folder = Path(one.do("__import__('tempfile').gettempdir()"))
        assert folder != Path(two.do("__import__('tempfile').gettempdir()"))
        assert place in folder.parents
        assert folder.stat().st_mode & 0o777 == 0o700
        one.do("os.makedirs(os.environ['TMPDIR'] + '/a/b')\nopen(os.environ['TMPDIR'] + '/a/b/c', 'w').close()")
        if how == "SIGKILL of the supervisor":
            os.kill(runtime.supervisor, signal.SIGKILL)
            assert runtime.process.wait(timeout=30) == 128 + signal.SIGKILL
            assert list(place.iterdir()) == []
            return
        if how == "return":
            one.order("raise SystemExit")
        else:
            os.kill(one.os_pid, signal.SIGKILL)
        wait_until(lambda: not folder.exists())
        assert two.do("os.path.isdir(os.environ['TMPDIR'])")
    assert list(place.iterdir()) == []


# --- the sandbox ------------------------------------------------------------------------------------------------------


def denied(puppet: Puppet, code: str) -> bool:
    """Whether the kernel refuses this."""
    try:
        puppet.do(code)
    except PuppetError as error:
        if error.kind == "PermissionError":
            return True
        raise
    return False


@needs_landlock
def test_a_sandbox_leaves_what_it_names(tmp_path: Path) -> None:
    for name in ("readable", "writable", "secret"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    sandbox = {"read": [str(tmp_path / "readable")], "write": [str(tmp_path / "writable")]}
    with (
        confined(tmp_path, {"TMPDIR": str(tmp_path)}, sandbox=sandbox, private_tmp=True) as runtime,
        Puppet(runtime, LIMITED) as one,
        Puppet(runtime, LIMITED) as two,
    ):
        assert one.do(f"open({str(tmp_path / 'readable' / 'file')!r}).read()") == "readable"
        assert denied(one, f"open({str(tmp_path / 'readable' / 'file')!r}, 'a')")
        assert denied(one, f"os.truncate({str(tmp_path / 'readable' / 'file')!r}, 0)")
        assert denied(one, f"open({str(tmp_path / 'readable' / 'new')!r}, 'w')")
        assert denied(one, f"open({str(tmp_path / 'secret' / 'file')!r})")
        assert denied(one, f"os.listdir({str(tmp_path)!r})")
        assert denied(one, "open('/etc/shadow')")
        one.do(f"open({str(tmp_path / 'writable' / 'new')!r}, 'w').write('new')")
        assert (tmp_path / "writable" / "new").read_text() == "new"
        one.do("open(os.environ['TMPDIR'] + '/own', 'w').write('x')")
        other = two.do("os.environ['TMPDIR']")
        assert denied(one, f"open({other!r} + '/others', 'w')")
        # programs that it executes are in it too, and can be executed
        run = "__import__('subprocess').run(['/bin/cat', {!r}], capture_output=True).returncode"
        assert one.do(run.format(str(tmp_path / "readable" / "file"))) == 0
        assert one.do(run.format(str(tmp_path / "secret" / "file"))) != 0
        assert one.do("__import__('wave').__name__") == "wave"  # the library is there


@needs_landlock
def test_a_module_is_imported_in_the_sandbox(tmp_path: Path) -> None:
    module = "open('/etc/shadow')\n\ndef function():\n    pass\n"
    sources = {"peeking.py": module}
    with confined(tmp_path, sources=sources, sandbox={"read": []}) as runtime, Puppet(runtime, LIMITED) as one:
        assert one.do("1 + 1") == 2


@pytest.mark.skipif(landlock_abi() < SIGNALS_ABI, reason=f"needs Landlock with ABI {SIGNALS_ABI}")
def test_workers_may_be_kept_from_signalling_others(tmp_path: Path) -> None:
    with (
        confined(tmp_path, sandbox={"signals": False}) as runtime,
        Puppet(runtime, LIMITED) as one,
        Puppet(runtime, LIMITED) as two,
        Puppet(runtime) as free,
    ):
        assert denied(one, f"os.kill({two.os_pid}, signal.SIGKILL)")
        assert denied(one, f"os.kill({runtime.supervisor}, signal.SIGKILL)")
        assert denied(one, "os.kill(os.getppid(), 0)")
        one.do("child = os.fork()\nif child == 0:\n    while True: signal.pause()\nos.kill(child, signal.SIGKILL)")
        assert two.do("'fine'") == "fine"
        assert free.do(f"os.kill({two.os_pid}, 0)") is None


# --- who a worker is --------------------------------------------------------------------------------------------------


@needs_root
def test_user_groups_and_what_goes_with_them(tmp_path: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    for path in (tmp_path, *tmp_path.parents):
        if path != Path("/"):
            path.chmod(path.stat().st_mode | 0o055)
    (tmp_path / "temporary").mkdir(mode=0o755)
    fields: dict[str, Any] = {
        "user": "nobody", "group": "daemon", "groups": ["mail"], "umask": "0027", "oom_score": 321, "private_tmp": True,
        "limits": {"core": 0, "disk": "1MiB", "processes": 20},
        "environment": {"inherit": False, "set": {"COLOUR": "blue"}},
    }  # fmt: skip
    with (
        confined(tmp_path, {"TMPDIR": str(tmp_path / "temporary"), "SECRET": "x"}, **fields) as runtime,
        scene(runtime) as on,
    ):
        one = on.bystander
        assert one.do("os.getresuid()") == [nobody.pw_uid] * 3
        assert one.do("os.getresgid()") == [1] * 3
        assert one.do("os.getgroups()") == [8]
        assert denied(one, "os.setuid(0)")
        assert denied(one, "os.setgid(0)")
        assert one.do("os.umask(0)") == 0o027
        assert one.do("open('/proc/self/oom_score_adj').read().strip()") == "321"
        assert one.do("__import__('resource').getrlimit(__import__('resource').RLIMIT_CORE)") == [0, 0]
        assert one.do("os.environ['HOME'], os.environ['USER']") == [nobody.pw_dir, "nobody"]
        assert one.do("os.environ['COLOUR'], os.environ.get('SECRET')") == ["blue", None]
        started_with = one.do("open('/proc/self/environ').read() if os.access('/proc/self/environ', os.R_OK) else ''")
        assert "SECRET" not in started_with
        one.do("open(os.environ['TMPDIR'] + '/own', 'w').write('x')")
        on.culprit.order("while True:\n    try: os.fork()\n    except OSError: pass")
        on.check_only_the_culprit_ends("limit:processes")  # RLIMIT_NPROC would have been its user's
        # S40: PR_SET_PDEATHSIG was set after the change of user, which clears it
        argument = "arguments = [__import__('ctypes').c_int()]\n__import__('ctypes').CDLL(None).prctl(2, __import__('ctypes').byref(arguments[0]))"
        one.do(argument)
        assert one.do("arguments[0].value") == signal.SIGKILL


# --- what cannot be had -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"sandbox": {"read": ["/no/such/folder"]}}, "sandbox.read: there is no file or folder '/no/such/folder'"),
        ({"group": "no-such-group"}, "group: there is no group 'no-such-group'"),
        ({"limits": {"open_files": 1_000_000}}, "limits.open_files: 1000000 is over the hard limit of the runtime"),
    ],
)
def test_what_cannot_be_had_keeps_the_runtime_from_starting(
    tmp_path: Path, fields: Mapping[str, Any], words: str
) -> None:
    write_application(tmp_path / "application", entries(fields), PUPPET_SOURCES)
    place = tmp_path / "temporary"
    place.mkdir()
    runtime = Runtime(tmp_path / "application", {"TMPDIR": str(place)})
    try:
        wait_until(lambda: runtime.process.poll() is not None, message=runtime.log)
        assert runtime.process.returncode == 1
        (line,) = [line for line in runtime.log().splitlines() if words in line]
        assert "_index.yaml:" in line
        assert "Traceback" not in runtime.log()
        assert list(place.iterdir()) == []
    finally:
        runtime.kill()


# --- upgrade ----------------------------------------------------------------------------------------------------------

RENEWED = """
    import json, os
    import puppet
    from wsrelay.workers import process

    def renewed(client):
        found = sorted(os.listdir(os.environ["TMPDIR"]))
        process.send(client, "ws.send", {"data": json.dumps({"value": found})})
        puppet.puppet(client)
"""


def test_upgraded_code_keeps_the_temporary_folder(tmp_path: Path) -> None:
    # S35
    made = [*entries({"private_tmp": True}), actor("renewed", source="file://renewed.py")]
    with (
        running_runtime(tmp_path, made, {**PUPPET_SOURCES, "renewed.py": RENEWED}) as runtime,
        Puppet(runtime, LIMITED) as one,
    ):
        one.do("open(os.environ['TMPDIR'] + '/kept', 'w').close()")
        assert one.do("process.upgrade('app:renewed', client)") == ["kept"]
        folder = Path(one.do("os.environ['TMPDIR']"))
        assert folder.exists()
        one.order("raise SystemExit")
        wait_until(lambda: not folder.exists())
