"""The process side where it is sharp: what starts the runtime, hosts that stop, descriptors that run out, signals in the midst."""

from __future__ import annotations

import os
import re
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.fork_server import host_of
from support.puppet import PUPPET_ENTRIES, PUPPET_SOURCES, Puppet
from support.runtime import Runtime, actor, running_runtime, write_application
from support.waiting import wait_until

SPARE_DESCRIPTORS = 32
EDGES = """
    import ctypes, os, signal, sys, threading
    from wsrelay.workers import process

    class Untrue(dict):
        def items(self):
            raise RuntimeError("no")

    ENDINGS = {
        "return": lambda: None,
        "raise": lambda: 1 / 0,
        "exit": lambda: sys.exit(3),
        "os._exit": lambda: os._exit(5),
        "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
        "segfault": lambda: ctypes.string_at(0),
        "terminate": lambda: (process.terminate(process.pid()), signal.pause()),
    }

    def talk(listener, count, ending):
        \"\"\"Three threads and a signal handler that all send; then the end.\"\"\"
        beats = iter(range(1_000_000))
        payload = bytes(3000)

        def say(topic):
            for number in range(count):
                process.send(listener, topic, [number, payload])

        def beat(*_):
            process.send(listener, "beat", [next(beats), payload])

        signal.signal(signal.SIGALRM, beat)
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
        threads = [threading.Thread(target=say, args=(name,)) for name in "ab"]
        for thread in threads:
            thread.start()
        say("c")
        for thread in threads:
            thread.join()
        signal.setitimer(signal.ITIMER_REAL, 0)
        process.send(listener, "beats", [next(beats), payload])
        ENDINGS[ending]()

    def listen(count, ending):
        \"\"\"What came of it until the EXIT, and nothing after it.\"\"\"
        pid, ref = process.spawn_monitored("app:talk", "app:processes", process.pid(), count, ending)
        heard = {}
        while not isinstance(item := process.receive(timeout=30), process.Exit):
            heard.setdefault(item.topic, []).append(item.payload[0])
        beats = heard.pop("beats")[0]
        assert sorted(heard.pop("beat", [])) == list(range(beats)), "beats"  # one may interrupt another
        assert heard == dict.fromkeys("abc", list(range(count))), "messages"
        return item.reason.kind

    def untrue():
        return Untrue(a=1)
"""
ENTRIES = [*PUPPET_ENTRIES, *(actor(name, source="file://edges.py") for name in ("untrue", "talk"))]
SOURCES = {**PUPPET_SOURCES, "edges.py": EDGES}


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[Runtime]:
    with running_runtime(tmp_path, ENTRIES, SOURCES) as running:
        yield running


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    """For those who do nothing to it."""
    with running_runtime(tmp_path_factory.mktemp("edges"), ENTRIES, SOURCES) as running:
        yield running


def status(os_pid: int) -> list[str]:
    """The fields of proc(5) after the name: the state, the parent, …; a dead process has the state X."""
    try:
        return Path(f"/proc/{os_pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ["X"]


def limit_descriptors(runtime: Runtime, soft: int | None) -> None:
    """Set the supervisor's soft limit on descriptors; None raises it to the hard one."""
    _, hard = resource.prlimit(runtime.supervisor, resource.RLIMIT_NOFILE)
    resource.prlimit(runtime.supervisor, resource.RLIMIT_NOFILE, (hard if soft is None else soft, hard))


def highest_descriptor(runtime: Runtime) -> int:
    return max(int(name) for name in os.listdir(f"/proc/{runtime.supervisor}/fd"))


# --- how it is started and stopped ------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_stops_at_once_and_a_third_changes_nothing(runtime: Runtime, number: int) -> None:
    # The runtime waits for what it kills, however often it is told; only it has to be told.
    deaf = "\nfor n in (signal.SIGINT, signal.SIGTERM): signal.signal(n, signal.SIG_IGN)\nif os.fork() == 0:\n    os.setsid()"
    with Puppet(runtime) as one:
        one.order(deaf + "\nwhile True:\n    signal.pause()")
        wait_until(lambda: sum("workers.shell.host" in line for line in runtime.processes().values()) == 5)
        runtime.process.send_signal(number)
        wait_until(lambda: "stopping" in runtime.log())

        def gone() -> bool:
            runtime.process.send_signal(number)
            return runtime.process.poll() is not None

        wait_until(gone)
    assert runtime.process.returncode == 0
    assert "stopping at once" in runtime.log()
    assert "Traceback" not in runtime.log()
    assert not runtime.processes()


def test_what_the_runtime_did_not_start_it_does_not_kill(tmp_path: Path) -> None:
    # S2: `sidecar & exec wsrelay run …`, by a parent that ignores SIGCHLD
    folder, log, sidecars = tmp_path / "application", tmp_path / "log", tmp_path / "sidecars"
    write_application(folder, PUPPET_ENTRIES, PUPPET_SOURCES)
    script = """
        sleep 1000 & echo $! >> "$1"
        setsid sleep 1000 & echo $! >> "$1"
        (sleep 1000 & echo $! >> "$1"; read line < "$2") &
        exec "$3" run "$4"
    """
    latch = tmp_path / "latch"
    os.mkfifo(latch)
    command = Path(sys.executable).with_name("wsrelay")
    code = "import os, signal, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN); os.execv('/bin/sh', sys.argv[1:])"
    with log.open("wb") as output:
        started = subprocess.Popen(
            [sys.executable, "-c", code, "sh", "-c", script, "sh", sidecars, latch, command, folder],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        served = wait_until(lambda: re.search(r"serving \S+ on http(\S+)", log.read_text()), 30.0, log.read_text)
        others = [int(line) for line in sidecars.read_text().split()]
        latch.write_text("\n")  # now the grandchild is an orphan, and a child of the runtime
        wait_until(lambda: [status(other)[1:2] for other in others] == [[str(started.pid)]] * 3)
        with Puppet(_Served(f"ws{served[1]}")) as one:
            one.order("if os.fork() == 0:\n    os.setsid()\n    signal.pause()\nos._exit(3)")
            assert one.end() == (1011, "exit:3")
        wait_until(lambda: "left behind" in log.read_text())
        assert [status(other)[0] for other in others] == ["S"] * 3
    finally:
        started.terminate()
        assert started.wait(30) == 0, log.read_text()
        for line in sidecars.read_text().split():
            os.kill(int(line), signal.SIGKILL)
    assert "killed os process" in log.read_text()
    assert log.read_text().count("left behind") == 1


class _Served(Runtime):
    """What a puppet needs of a runtime that is started otherwise."""

    def __init__(self, base: str) -> None:
        self._base = base

    def ws_url(self, path: str = "/", service: str | None = None) -> str:
        return self._base + path


# --- hosts ------------------------------------------------------------------------------------------------------------


def test_terminate_works_on_what_is_not_born_yet(runtime: Runtime) -> None:
    # S30: whatever the host does
    with Puppet(runtime) as one:
        host = host_of(runtime)
        os.kill(host, signal.SIGSTOP)
        wait_until(lambda: status(host)[0] == "T")
        one.do("pid, ref = process.spawn_monitored('app:idle', HOST)")
        one.do("other, second = process.spawn_monitored('app:idle', HOST)\nprocess.terminate(pid)")
        assert (event := one.event())["kind"] == "killed"
        assert event["ref"] == one.do("ref")
        os.kill(host, signal.SIGCONT)
        # It forks them in order: the first is killed at its birth and reaped, the second lives.
        one.do("process.send(other, 'topic')\nthird, ref = process.spawn_monitored('app:finish', HOST)")
        assert one.event()["kind"] == "normal"
        wait_until(lambda: len([line for line in runtime.processes().values() if "workers.shell.host" in line]) == 5)
        assert "garbage" not in runtime.log()


def test_a_host_that_is_killed_in_the_midst_of_spawning(runtime: Runtime) -> None:
    # S41a, S2: spawns under way end noconnection, the others live, nobody is left
    with Puppet(runtime) as one:
        for _ in range(3):
            host = host_of(runtime)
            one.do("kinds, living = [], []\nfor _ in range(30): process.spawn_monitored('app:idle', HOST)\nimport time")
            os.kill(host, signal.SIGKILL)
            # Names tell who lives: a dead process cannot have one.
            one.do(
                "pids = [process.spawn('app:finish', HOST)]\n"
                "while True:\n"
                "    pid, ref = process.spawn_monitored('app:finish', HOST)\n"
                "    event = process.events().receive(timeout=10)\n"
                "    kinds.append(event.reason.kind)\n"
                "    if event.reason.kind == 'normal': break\n"
            )
            assert set(one.do("kinds")) <= {"noconnection", "normal"}
            assert one.do("1 + 1") == 2
        wait_until(lambda: "Traceback" not in runtime.log() and host_of(runtime) != host)


# --- descriptors ------------------------------------------------------------------------------------------------------


def test_without_descriptors_spawns_fail_and_nothing_else(runtime: Runtime) -> None:
    # S3, S42
    with Puppet(runtime) as one:
        limit_descriptors(runtime, highest_descriptor(runtime) + SPARE_DESCRIPTORS + 10)
        one.do("pids = [process.spawn_monitored('app:idle', HOST)[0] for _ in range(20)]")
        event = one.event()
        assert event["kind"] == "noconnection"
        assert "Too many open files" in event["text"]
        one.do("process.terminate(pids[0])")  # a death needs descriptors too
        while (event := one.event())["kind"] == "noconnection":
            pass
        assert (event["kind"], event["sender"]) == ("killed", one.do("pids[0]"))
        one.do("for pid in pids: process.terminate(pid)")
        wait_until(lambda: len(runtime.processes()) == 7)
        one.events_now()
        # A host that cannot be restarted is restarted later.
        host = host_of(runtime)
        limit_descriptors(runtime, 3)
        os.kill(host, signal.SIGKILL)
        wait_until(lambda: "cannot be started" in runtime.log().partition("restarting")[2])
        limit_descriptors(runtime, None)
        wait_until(lambda: host_of(runtime) != host and len(runtime.processes()) == 7)
        one.do("pid, ref = process.spawn_monitored('app:idle', HOST)\nprocess.terminate(pid)")
        assert one.event()["kind"] == "killed"
        assert "Traceback" not in runtime.log()


# --- in a worker ------------------------------------------------------------------------------------------------------


def test_what_a_worker_is_born_with(shared: Runtime) -> None:
    with Puppet(shared) as watcher, Puppet(shared) as one:
        watcher.do("process.monitor(other)", other=one.pid)
        assert one.do("os.getcwd()") == os.readlink(f"/proc/{shared.process.pid}/cwd")
        assert one.do("sorted(signal.pthread_sigmask(signal.SIG_BLOCK, []))") == []
        one.order("os.kill(os.getpid(), signal.SIGINT)")  # the runtime ignores it in the host only
        assert watcher.event()["text"] == "exception: KeyboardInterrupt"


def test_long_timeouts(shared: Runtime) -> None:
    with Puppet(shared) as one:
        one.do("import threading")
        one.do("threading.Timer(0.05, process.send, (process.pid(), 'topic', 'came')).start()")
        assert one.do("process.receive(timeout='720h').payload") == "came"


def test_a_signal_handler_asks_in_the_midst_of_asking(shared: Runtime) -> None:
    # S19; and no signal stays blocked by it
    with Puppet(shared) as one:
        one.do("pid = process.spawn('app:idle', HOST)\nasked = []\nrefs = []")
        one.do(
            "def ask(*_):\n"
            "    asked.append(process.monitor(pid))\n"
            "    if len(asked) < 200: signal.setitimer(signal.ITIMER_REAL, 0.0003)\n"
            "signal.signal(signal.SIGALRM, ask)\n"
            "signal.setitimer(signal.ITIMER_REAL, 0.0003)\n"
            "while len(asked) < 200: refs.append(process.monitor(pid))\n"
            "process.terminate(pid)\n"
            "fired = [process.events().receive(timeout=10).ref for _ in asked + refs]"
        )
        assert one.do("sorted(fired) == sorted(asked + refs)")
        assert one.events_now() == []


def test_a_value_that_fails_while_it_is_packed(shared: Runtime) -> None:
    # S18
    with Puppet(shared) as one:
        one.do("pid, ref = process.spawn_monitored('app:untrue', HOST)")
        assert (event := one.event())["kind"] == "exception"
        assert "RuntimeError" in event["text"]


def test_an_exit_comes_behind_every_message(shared: Runtime) -> None:
    # S6, S11, S14: three threads and a signal handler send; whatever the end, all of it is there before the EXIT
    with Puppet(shared) as one:
        one.do("sys.path.insert(0, os.path.dirname(__file__))\nimport edges")
        kinds = {
            "return": "normal",
            "raise": "exception",
            "exit": "exit:3",
            "os._exit": "exit:5",
            "kill": "signal:SIGKILL",
            "segfault": "signal:SIGSEGV",
            "terminate": "killed",
        }
        for ending, kind in kinds.items():
            for count in (1, 150):
                assert one.do(f"edges.listen({count}, {ending!r})") == kind


def test_a_worker_that_leaves_many_children(shared: Runtime) -> None:
    # S16: more of them than are watched at a time
    shared.quiesce()
    with Puppet(shared) as watcher, Puppet(shared) as one:
        before = len(shared.processes())
        watcher.do("process.monitor(other)", other=one.pid)
        one.order(
            "for _ in range(300):\n    if os.fork() == 0:\n        os.setsid()\n        signal.pause()\nos._exit(2)"
        )
        assert watcher.event()["kind"] == "exit:2"
        wait_until(lambda: len(shared.processes()) == before - 1)


def test_a_worker_that_leaves_generations_of_children(runtime: Runtime) -> None:
    # S16: whose parents are alive when the worker dies, each in a session of its own
    with Puppet(runtime) as watcher, Puppet(runtime) as one:
        before = len(runtime.processes())
        watcher.do("process.monitor(other)", other=one.pid)
        one.order(
            "me = os.getpid()\n"
            "ready, told = os.pipe()\n"
            "for _ in range(20):\n"
            "    if os.fork() != 0:\n"
            "        if os.getpid() != me: signal.pause()\n"
            "        os.read(ready, 1)\n"
            "        os._exit(2)\n"
            "    os.setsid()\n"
            "os.write(told, b'x')\n"
            "signal.pause()"
        )
        assert watcher.event()["kind"] == "exit:2"
        wait_until(lambda: len(runtime.processes()) == before - 1)


def test_arguments_and_notices_are_no_mail(tmp_path: Path) -> None:
    # S10: what is exempt does not make what counts overflow
    limited = [
        {**entry, "limits": {"mailbox": "100KiB"}} if entry["kind"] == "process.host" else entry for entry in ENTRIES
    ]
    with running_runtime(tmp_path, limited, SOURCES) as runtime, Puppet(runtime) as one:
        one.do(
            "pid, ref = process.spawn_monitored('app:finish', HOST, 'x' * 500_000)\n"
            "for number in range(10): process.send(pid, 'topic', number)"
        )
        assert one.event()["kind"] == "normal"
        with Puppet(runtime) as other:
            one.do("process.monitor(other)", other=other.pid)
            other.order("signal.signal(signal.SIGALRM, signal.SIG_IGN)\nwhile True: signal.pause()")
            one.do("for _ in range(150): process.send(other, 'topic', 'x' * 10_000)")
            assert one.event()["kind"] == "limit:mailbox"


# --- what keeps the runtime from starting -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kind": "process.host", "user": "no-such-user"}, ": user: there is no user 'no-such-user'"),
        (
            {"kind": "http.service", "addr": "127.0.0.1:0", "tls": {"certificate": "junk.pem", "key": "junk.pem"}},
            "junk.pem' holds no certificate in PEM (app:host)",
        ),
    ],
)
def test_what_cannot_be_had_is_one_clear_error(tmp_path: Path, change: dict[str, object], words: str) -> None:
    entries = [{"name": "host", **change}]
    write_application(tmp_path / "application", entries, {"junk.pem": "junk"})
    runtime = Runtime(tmp_path / "application")
    try:
        wait_until(lambda: runtime.process.poll() is not None, message=runtime.log)
        assert runtime.process.returncode == 1
        wait_until(lambda: words in runtime.log(), message=runtime.log)
        assert re.search(r"_index\.yaml:\d+:\d+: ", runtime.log())
        assert "Traceback" not in runtime.log()
    finally:
        runtime.kill()


def test_an_address_that_is_taken_is_one_error_with_its_place(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        entries = [{"name": "first", "kind": "http.service", "addr": "127.0.0.1:0"}]
        entries += [{"name": "watched", "kind": "http.admin", "addr": address}]
        write_application(tmp_path / "application", entries, {})
        runtime = Runtime(tmp_path / "application")
        try:
            wait_until(lambda: runtime.process.poll() is not None, message=runtime.log)
            assert runtime.process.returncode == 1
            [line] = runtime.log().splitlines()
            assert re.search(rf"_index\.yaml:\d+:\d+: addr: cannot listen on {address}: .* \(app:watched\)$", line)
        finally:
            runtime.kill()
