"""The fork server: what it preloads, whom it forks, and how it ends."""

from __future__ import annotations

import os
import pwd
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.waiting import wait_until
from support.worker_lab import PEER, Ended, Lab
from wsrelay.kernel.wire import messages as wire
from wsrelay.kernel.wire.channel import channel_pair
from wsrelay.kernel.wire.configuration import HostConfiguration, HostLimits, Identity, Sandbox
from wsrelay.workers.shell import loader

MAIN = f"""
import os
from wsrelay.workers import process
def main():
    process.send("{PEER}", "t", [loaded_in == os.getpid(), globals().get("extra")])
loaded_in = os.getpid()
"""
REFUSED = {
    "thread": ("import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()", "1 threads"),
    "nested": ("import json.tool, outer", "1 threads running, started by the import of threaded"),
    "child": ("import subprocess\nchild = subprocess.Popen(['sleep', '1000'])", "child process"),
    "daemon": (
        "import subprocess\nsubprocess.run(['setsid', '-f', 'sleep', '1000'], stdout=subprocess.DEVNULL)",
        "child process",
    ),
    "loop": ("import asyncio\nloop = asyncio.new_event_loop()", "event loop"),
    "file": ("file = open('/etc/hostname')", "a descriptor open: /etc/hostname"),
    "error": ("raise ValueError('boom')", "ValueError: boom"),
    "exit": ("import sys\nsys.exit(3)", "SystemExit: 3"),
    "die": ("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)", "ended the process"),
    "os_exit": ("import os\nos._exit(0)", "ended the process"),
}
ACCEPTED = {
    "plain": "",
    "sibling": "from helper import extra",
    "print": "print('x')\nimport subprocess\nsubprocess.run('true')",
}


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("preload")
    (folder / "helper.py").write_text("extra = 'help'")
    (folder / "outer.py").write_text("import threaded")
    (folder / "threaded.py").write_text(REFUSED["thread"][0])
    for name, (text, _) in REFUSED.items():
        (folder / f"{name}.py").write_text(f"{MAIN}\n{text}")
    for name, text in ACCEPTED.items():
        (folder / f"{name}.py").write_text(f"{MAIN}\n{text}")
    return {name: f"file://{folder}/{name}.py" for name in (*REFUSED, *ACCEPTED)}


@pytest.fixture(scope="module")
def preloaded(sources: dict[str, str]) -> Iterator[Lab]:
    missing = "python://no_such_module"
    configuration = HostConfiguration("app:processes", sources=(*sources.values(), missing, "python://json"))
    with Lab(configuration) as running:
        yield running


def test_what_cannot_be_forked_is_not_preloaded(preloaded: Lab, sources: dict[str, str]) -> None:
    expected = {sources[name]: why for name, (_, why) in REFUSED.items()}
    expected["python://no_such_module"] = "ModuleNotFoundError"
    assert set(preloaded.refused) == set(expected)
    for source, why in expected.items():
        assert why in preloaded.refused[source]
    assert children_of(preloaded.host.pid) == []


def children_of(os_pid: int) -> list[str]:
    return Path(f"/proc/{os_pid}/task/{os_pid}/children").read_text().split()


@pytest.mark.parametrize("name", ACCEPTED)
def test_preloaded_modules_are_there(preloaded: Lab, sources: dict[str, str], name: str) -> None:
    with preloaded.start(preloaded.fork(), sources[name], "main") as worker:
        assert worker.message() == [False, "help" if name == "sibling" else None]
        assert worker.end() == Ended("normal", 0)


@pytest.mark.parametrize("name", ["thread", "loop", "file"])
def test_others_are_imported_by_their_workers(preloaded: Lab, sources: dict[str, str], name: str) -> None:
    with preloaded.start(preloaded.fork(), sources[name], "main") as worker:
        assert worker.message() == [True, None]
        assert worker.end() == Ended("normal", 0)


def test_an_import_that_hangs_is_given_up(tmp_path: Path) -> None:
    (tmp_path / "hang.py").write_text("while True: pass")
    script = f"from wsrelay.workers.shell.preload import preload; print(preload(('file://{tmp_path}/hang.py',), 0.2))"
    done = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, check=True)
    assert "its import took longer than 0.2 s" in done.stdout


def test_user_and_limits(tmp_path_factory: pytest.TempPathFactory) -> None:
    if os.getuid() != 0:
        pytest.skip("only root can change the user")
    source = f"""
import os, resource
from wsrelay.workers import process
def main():
    with open("/proc/self/status") as file:
        status = dict(line.split(":", 1) for line in file)
    process.send("{PEER}", "t", [os.getuid(), os.getgid(), os.getgroups(),
        resource.getrlimit(resource.RLIMIT_NOFILE)[0], status["NoNewPrivs"].strip(), status["SigIgn"].strip()])
    process.receive()
"""
    nobody = pwd.getpwnam("nobody")
    configuration = HostConfiguration(
        "app:processes",
        identity=Identity(nobody.pw_uid, nobody.pw_gid, (nobody.pw_gid, 4), "nobody", "/"),
        limits=HostLimits(open_files=77),
    )
    folder = tmp_path_factory.mktemp("user")
    for path in (folder, *folder.parents):
        if path.owner() == "root" and path != Path("/"):
            path.chmod(path.stat().st_mode | 0o055)
    with Lab(configuration, folder) as lab, lab.actor(source) as worker:
        uid, gid, groups, files, no_new_privileges, ignored = worker.message()
        assert (uid, gid, files, no_new_privileges) == (nobody.pw_uid, nobody.pw_gid, 77, "1")
        assert sorted(groups) == sorted({nobody.pw_gid, 4})
        assert not int(ignored, 16) & 1 << (signal.SIGTERM - 1)


def test_a_host_that_cannot_be_confined_runs_nothing() -> None:
    with pytest.raises(AssertionError, match="has ended"):
        Lab(HostConfiguration("app:processes", sandbox=Sandbox(read=("/no/such/folder",))))


def test_workers_outlive_their_host(lab: Lab, tmp_path: Path) -> None:
    # S41a
    with Lab(folder=tmp_path) as mine:
        worker = mine.actor("from wsrelay.workers import process\ndef main(): process.receive()")
        newborn = mine.fork()
        mine.host.kill()
        mine.host.wait()
        with worker, newborn:
            worker.tell(wire.CancelSignal(PEER, None))
            assert worker.end() == Ended("cancelled", 0)
            mine.start(newborn, "python://os", "getpid")
            assert newborn.end() == Ended("normal", 0)


def test_many_forks_at_once(lab: Lab) -> None:
    pairs = [channel_pair() for _ in range(50)]
    for number, (_, theirs) in enumerate(pairs):
        lab.channel.send(wire.Fork(1000 + number), theirs.fileno())
    lab.channel.flush()
    born = [lab.expect(wire.Forked) for _ in pairs]
    assert [forked.worker for forked in born] == [1000 + number for number in range(50)]
    for (ours, theirs), forked in zip(pairs, born, strict=True):
        theirs.close()
        ours.close()
        _, status = os.waitpid(forked.os_pid, 0)
        assert os.waitstatus_to_exitcode(status) == 1


def test_a_host_without_a_supervisor_ends() -> None:
    with Lab() as lab:
        lab.channel.close()
        assert lab.host.wait(10) == 0


def test_a_host_of_another_parent_ends_at_once() -> None:
    # S40: the supervisor may have ended before the host could ask to die with it
    ours, theirs = socket.socketpair()
    with ours, theirs:
        arguments = [sys.executable, "-m", "wsrelay.workers.shell.host", str(theirs.fileno()), "1"]
        with subprocess.Popen(arguments, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL) as host:
            assert host.wait(20) == 1


def test_nobody_survives_the_supervisor(tmp_path: Path) -> None:
    # S40
    script = f"""
import os, sys
sys.path.insert(0, {str(Path(__file__).parent.parent)!r})
from pathlib import Path
from support.worker_lab import Lab
lab = Lab(folder=Path({str(tmp_path)!r}))
worker = lab.actor("import signal\\ndef main():\\n while True: signal.pause()")
newborn = lab.fork()
print(lab.host.pid, worker.os_pid, newborn.os_pid, flush=True)
os.kill(os.getpid(), 9)
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as supervisor:
        assert supervisor.stdout is not None
        numbers = supervisor.stdout.readline().split()
        supervisor.wait(20)
    assert len(numbers) == 3
    for number in numbers:
        wait_until(lambda number=number: is_gone(number), message=f"{number} to end")  # type: ignore[misc]


def is_gone(os_pid: str) -> bool:
    try:
        return ") Z " in Path(f"/proc/{os_pid}/stat").read_text()
    except FileNotFoundError:
        return True


# --- the loader -------------------------------------------------------------------------------------------------------


@pytest.fixture
def clean_imports(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(loader, "_loaded", {})
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.mark.usefixtures("clean_imports")
def test_files_are_modules_with_siblings(tmp_path: Path) -> None:
    for folder, name in (("a", "room_a"), ("b", "room_a"), ("c", "json"), ("d", "not-a-name")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"{name}.py").write_text(f"where = {folder!r}\nclass A:\n    def f(): return {folder!r}\n")
    (tmp_path / "a" / "user.py").write_text("import room_a\ndef main(): return room_a.A")
    first = loader.load_entry(f"file://{tmp_path}/a/room_a.py", "A.f")
    assert first() == "a"
    made = loader.load_entry(f"file://{tmp_path}/a/user.py", "main")()
    assert made is loader.load_module(f"file://{tmp_path}/a/room_a.py").A  # one module, however it is imported
    for folder, name in (("b", "room_a"), ("c", "json"), ("d", "not-a-name")):
        assert loader.load_module(f"file://{tmp_path}/{folder}/{name}.py").where == folder
    import json

    assert not hasattr(json, "where")
    assert loader.load_entry("python://json", "dumps") is json.dumps


@pytest.mark.usefixtures("clean_imports")
def test_a_failed_import_is_not_kept(tmp_path: Path) -> None:
    (tmp_path / "later-on.py").write_text("raise ValueError('boom')")
    source = f"file://{tmp_path}/later-on.py"
    with pytest.raises(ValueError, match="boom"):
        loader.load_module(source)
    assert not [name for name in sys.modules if "later-on" in name]
    with pytest.raises(ImportError, match="expected a source"):
        loader.load_module("room.py")
    with pytest.raises(ImportError, match="no source file"):
        loader.load_module("file:///nowhere.py")
