"""What the kit sees of a runtime, and that it fails whoever leaves something there."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from wsrelay.tools import faults
from wsrelay.tools.faults import ProcessView, Runtime, Snapshot, wait_until
from wsrelay.tools.faults.applications import Entries, write_application
from wsrelay.tools.faults.copies import adapt

APP = """
    import os, socket, subprocess, sys
    from wsrelay.workers import http, process

    def connect():
        http.response().relay_to(process.spawn("app:does", "app:processes", http.request().param("what")))

    def idle():
        for _ in process.inbox():
            pass

    def does(what):
        for message in process.inbox():
            if message.topic == "ws.join":
                globals()[what]()
                process.send(message.sender, "ws.send", {"data": process.pid()})
            elif message.topic == "ws.leave":
                return

    def nothing():
        pass

    def leave_a_process():
        process.spawn("app:idle", "app:processes")

    def leave_a_busy_process():
        process.spawn("app:busy", "app:processes")

    def busy():
        while True:
            pass

    def leave_a_child():
        subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, start_new_session=True)

    def leave_a_file():
        open(os.environ["TMPDIR"] + "/left", "w").close()

    def leave_a_socket():
        socket.socket(socket.AF_UNIX).bind(os.environ["TMPDIR"] + "/socket")

    def leave_a_socket_beside_the_source():
        socket.socket(socket.AF_UNIX).bind(os.path.join(os.path.dirname(__file__), "socket"))

    kept = []

    def keep():
        kept.append(os.open("/dev/null", os.O_RDONLY))
        http.response().write("kept")

    async def rest():
        kept and os.close(kept.pop())
        http.response().write("rested")

    def watch_the_service():
        process.send("service", "watch", None)
        process.inbox().receive(timeout=10)

    def service():
        while True:
            match process.receive():
                case process.Message(topic="watch", sender=asker):
                    process.monitor(process.pid())
                    process.registry.register("another.name", process.pid())
                    process.groups.join("group", process.pid())
                    process.send(asker, "done", None)
                case process.Cancel():
                    return
"""
SERVICE = [
    faults.actor("service"),
    {
        "name": "service.run",
        "kind": "process.service",
        "process": "service",
        "host": "processes",
        "register": "service",
    },
]
ENTRIES = faults.application(
    faults.endpoint("/{what}", "connect"), faults.actor("does"), faults.actor("idle"), faults.actor("busy"), SERVICE
)


@contextlib.contextmanager
def running(**options: object) -> Iterator[Runtime]:
    with faults.running_runtime(ENTRIES, {"app.py": APP}, **options) as runtime:  # type: ignore[arg-type]
        yield runtime


def run(runtime: Runtime, what: str) -> str:
    """Have an actor do something, and end. Returns its PID."""
    with runtime.connect(f"/{what}") as client:
        return str(client.recv(timeout=15))


def test_what_is_seen_of_a_runtime(tmp_path: Path) -> None:
    with running() as runtime:
        before = runtime.quiesce()
        kinds = sorted(process.kind for process in before.processes)
        assert kinds == ["gateway", "guardian", "host", "supervisor", "worker", "worker", "worker"]
        [host] = [process for process in before.processes if process.kind == "host"]
        assert host.entry == "app:processes"
        with runtime.connect("/nothing") as client:
            pid = client.recv(timeout=15)
            worker = runtime.worker_of(str(pid))
            assert worker.entry == "app:does"
            assert worker.memory > 1_000_000
            assert worker.descriptors >= 5
            assert worker.state in {"sleeping", "running", "disk-sleep"}
            assert runtime.statistics()["connections"] == 1
        # More than once: the supervisor has one descriptor more while it is looking, or is being asked.
        wait_until(lambda: runtime.quiesce().left_since(before) == [], message=runtime.log)
        with pytest.raises(LookupError, match="no worker runs"):
            runtime.worker_of(str(pid))


@pytest.mark.parametrize(
    ("what", "complaint"),
    [
        ("leave_a_process", r"a process: worker app:idle \{"),
        ("leave_a_file", r"temporary files are left: \['.*/left'\]"),
        ("leave_a_socket_beside_the_source", r"socket files are left beside the application: \['.*/socket'\]"),
        ("leave_a_socket", r"temporary files are left: \['.*/socket'\]"),
        (
            "watch_the_service",
            r"names: 1 more than at the start\n  monitors: 1 more than at the start\n  memberships: 1 more",
        ),
    ],
)
def test_what_is_left_fails_the_test(what: str, complaint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wsrelay.tools.faults.runtime.REST_TIMEOUT", 2.0)
    with pytest.raises(AssertionError, match=complaint), running() as runtime:
        run(runtime, what)


def requesting(paths: list[str], **options: Any) -> None:
    """The life of a runtime that has these requests, and one worker for them."""
    entries = faults.application(faults.endpoint("/keep", "keep"), faults.endpoint("/rest", "rest"))
    entries[1]["functions"] = 1
    with faults.running_runtime(entries, {"app.py": APP}, **options) as runtime:
        for path in paths:
            with urllib.request.urlopen(runtime.url(path), timeout=15) as answer:
                assert answer.status == 200


def test_descriptors_that_requests_leave_fail_the_test(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wsrelay.tools.faults.runtime.REST_TIMEOUT", 2.0)
    with pytest.raises(AssertionError) as failed:
        requesting(["/keep"] * 5)
    found = re.search(
        r"descriptors of a function worker of app:processes \(os process \d+\): (\d+), when it first .* (\d+)",
        str(failed.value),
    )
    assert found is not None, failed.value
    assert int(found[1]) - int(found[2]) == 5


@pytest.mark.parametrize(
    ("paths", "keeps"), [(["/keep"] * 5, ["app:processes"]), (["/keep", "/rest"], []), (["/rest"] * 3, [])]
)
def test_descriptors_that_may_stay_or_do_not(paths: list[str], keeps: list[str]) -> None:
    requesting(paths, keeps=keeps)


def test_what_a_worker_leaves_is_swept(tmp_path: Path) -> None:  # S16
    with running() as runtime:
        run(runtime, "leave_a_child")


def test_quiescence_is_more_than_no_connections() -> None:
    with running(strict=False) as runtime:
        run(runtime, "leave_a_busy_process")
        with pytest.raises(AssertionError, match="the runtime to come to rest; it has"):
            runtime.quiesce(0.5)
        assert runtime.quiesce(idle=False).sizes["processes"] == 2


def test_what_may_stay() -> None:
    with running(keeps=["app:idle"]) as runtime:
        run(runtime, "leave_a_process")


def test_an_entry_that_may_stay_must_be_there() -> None:
    complaint = "there is no entry 'app:idel' in this application; it has app:idle"
    with pytest.raises(ValueError, match=complaint), running(keeps=["app:idel"]):
        pass
    with running() as runtime, pytest.raises(ValueError, match=complaint):
        runtime.check_as_found(["app:idel"])


def test_what_an_operator_asks() -> None:
    with running() as runtime:
        assert "app:service.run" in runtime.command("status")
        runtime.command("stop", "app:service.run")
        wait_until(lambda: not [each for each in runtime.ps() if each.entry == "app:service"])
        runtime.command("start", "app:service.run")
        wait_until(lambda: [each for each in runtime.ps() if each.entry == "app:service"])
        with pytest.raises(AssertionError, match="wsrelay stop app:none ended with 1"):
            runtime.command("stop", "app:none")


def test_a_failure_comes_with_the_log() -> None:
    with pytest.raises(ZeroDivisionError) as caught, running():
        _ = 1 / 0
    [note] = caught.value.__notes__
    assert "serving app:gateway on" in note


@pytest.mark.parametrize("strict", [True, False])
def test_a_runtime_that_ends_by_itself_fails_the_test(strict: bool) -> None:
    with (
        pytest.raises(AssertionError, match=r"the runtime (has ended|ended with 137)"),
        running(strict=strict) as runtime,
    ):
        os.kill(runtime.supervisor, signal.SIGKILL)


def test_a_stopped_supervisor_is_reported_and_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    with running() as runtime:
        monkeypatch.setattr("wsrelay.tools.faults.observation.ANSWER_TIMEOUT", 0.3)
        supervisor = runtime.supervisor
        os.kill(supervisor, signal.SIGSTOP)
        with pytest.raises(AssertionError, match="is it stopped"):
            runtime.ps()
        os.kill(supervisor, signal.SIGCONT)
        monkeypatch.undo()
        assert runtime.statistics()["workers"] == 3


def test_signals_for_statistics_change_nothing() -> None:
    with running() as runtime, faults.check_isolation(runtime, "/nothing", _hears_nothing):
        size = runtime.log_size()
        for _ in range(20):
            runtime.process.send_signal(signal.SIGUSR1)
            runtime.process.send_signal(signal.SIGUSR2)

        def all_are_listed() -> bool:
            runtime.process.send_signal(
                signal.SIGUSR2
            )  # the bystander's target may not have been there at the last one
            return "listed 6 of 6 processes" in runtime.log_since(size)

        wait_until(all_are_listed, message=runtime.log)
        said = runtime.log_since(size)
        assert "app.py" not in said
        assert "127.0.0.1" not in said


def _hears_nothing(client: object, number: int) -> None:
    """The target says something once, and then it only has to be there."""
    assert client.ping().wait(15)  # type: ignore[attr-defined]


def test_a_signal_while_the_runtime_stops_does_no_harm() -> None:
    with running() as runtime:
        runtime.process.send_signal(signal.SIGTERM)
        for _ in range(50):
            if runtime.process.poll() is None:
                runtime.process.send_signal(signal.SIGUSR1)
                runtime.process.send_signal(signal.SIGUSR2)
        assert runtime.stop() == 0


# --- the application --------------------------------------------------------------------------------------------------


def test_addresses_are_freed_and_nothing_else_is_touched() -> None:
    text = '# 8080\nnamespace: a\nentries:\n  - {name: g, kind: http.service, addr: ":8080"} # :8080\n  - name: h\n    kind: http.admin\n    addr: unix:/run/x\n  - {name: x, kind: other, addr: ":8080"}\n  - {name: y, kind: http.service, addr: localhost:0}\n'
    freed = adapt(text, Path("/kit"), Path("/points"))
    expected = text.replace('http.service, addr: ":8080"', 'http.service, addr: "127.0.0.1:0"')
    assert freed == expected.replace("unix:/run/x", '"unix:/kit/a.h.sock"')
    for odd in ("", "[", "entries: 3", "- a", "entries: [{kind: [http.service], addr: {}}]", "{[a]: b}"):
        assert adapt(odd, Path("/kit"), Path("/points")) == odd


FIXED = """
version: "1.0"
namespace: app
entries:
  - {name: gateway, kind: http.service, addr: "127.0.0.1:1"}   # nobody may listen there but root
  - {name: admin, kind: http.admin, addr: "127.0.0.1:2"}
  - {name: processes, kind: process.host}
"""


@pytest.mark.parametrize("application", [FIXED, yaml.safe_load(FIXED), yaml.safe_load(FIXED)["entries"]], ids=type)
def test_addresses_of_entries_are_freed_too(application: Entries) -> None:
    with faults.running_runtime(application) as runtime:
        assert runtime.port("app:gateway") > 2
        assert "127.0.0.1:2 " not in runtime.log()


def on_a_socket(path: Path) -> list[dict[str, Any]]:
    """The application, on a socket file."""
    entries = faults.application(faults.endpoint("/{what}", "connect"), faults.actor("does"))
    entries[0]["addr"] = f"unix:{path}"
    return entries


def test_a_socket_file_is_in_the_folder_of_the_kit(tmp_path: Path) -> None:
    mine = tmp_path / "mine.sock"
    entries = on_a_socket(mine)
    with (
        faults.running_runtime(entries, {"app.py": APP}) as one,
        faults.running_runtime(entries, {"app.py": APP}) as two,
    ):
        assert one.address() == f"unix:{one.temporary}/app.gateway.sock"
        assert Path(two.address().removeprefix("unix:")).is_socket()
        assert not mine.exists()
        run(one, "nothing")

        async def asynchronously() -> str | bytes:
            async with one.connect_async("/nothing") as client:
                return await client.recv()

        assert asyncio.run(asynchronously())
        with pytest.raises(ValueError, match="expected a service on a port"):
            one.url()


def test_a_socket_file_is_removed_when_the_test_fails(tmp_path: Path) -> None:
    with (
        pytest.raises(ZeroDivisionError),
        faults.running_runtime(on_a_socket(Path("/x")), {"app.py": APP}, folder=tmp_path) as runtime,
    ):
        _ = 1 // (len(list(runtime.temporary.glob("*.sock"))) - 1)  # there is one
    assert [path for path in tmp_path.rglob("*") if path.is_socket()] == []


def test_what_application_returns_is_the_tests_own() -> None:
    mine = faults.application()
    for entry in mine:
        entry["mine"] = True
    mine[2]["meta"]["server"] = "other"
    assert faults.application()[2]["meta"] == {"server": "gateway"}
    assert not any("mine" in entry for entry in faults.application())


def test_a_folder_of_yours_is_run_on_a_free_port(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "app.yaml").write_text(
        """
version: "1.0"
namespace: app
entries:
  - {name: gateway, kind: http.service, addr: "127.0.0.1:1"}   # nobody may listen there but root
  - {name: processes, kind: process.host}
"""
    )
    with faults.running_runtime(folder / "app.yaml") as runtime:
        assert runtime.port() > 1
    with faults.running_runtime(str(folder / "app.yaml")) as runtime:  # a str may be a path too
        assert runtime.port() > 1
    for gone in (tmp_path / "gone", str(tmp_path / "gone")):
        with pytest.raises(FileNotFoundError, match="no such file or folder"), faults.running_runtime(gone):
            pass


def test_a_quiet_runtime_answers_too(tmp_path: Path) -> None:
    write_application(tmp_path / "app", [{"name": "gateway", "kind": "http.service", "addr": "127.0.0.1:0"}], {})
    log = tmp_path / "log"
    with log.open("wb") as output:
        command = [Path(sys.executable).with_name("wsrelay"), "run", tmp_path / "app", "--log-level", "error"]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        guardian = psutil.Process(process.pid)
        wait_until(lambda: len(guardian.children(recursive=True)) == 2)  # the supervisor, which has begun to serve
        process.send_signal(signal.SIGUSR1)
        wait_until(lambda: '"workers": 0' in log.read_text())
    finally:
        process.terminate()
        assert process.wait(30) == 0


def test_entries_by_their_names() -> None:
    with faults.running_runtime({"gateway": {"kind": "http.service", "addr": "127.0.0.1:0"}}) as runtime:
        assert runtime.ps()


# --- the arithmetic of what is left -----------------------------------------------------------------------------------


def snapshot(*processes: ProcessView, **sizes: int) -> Snapshot:
    names = ("processes", "workers", "connections", "monitors", "timers", "orphans", "executions", "gateway")
    return Snapshot({**dict.fromkeys(names, 0), "gateway": 1, **sizes}, processes)


def test_what_is_more_than_before_is_left() -> None:
    supervisor = ProcessView("supervisor", 1, descriptors=10)
    room = ProcessView("worker", 2, "{a@b|c}", "app:room", monitors=2, state="sleeping")
    before = snapshot(supervisor)
    assert before.left_since(before) == []
    more = snapshot(supervisor, room, workers=1, processes=1, monitors=3, timers=1)
    assert more.left_since(before) == [
        "a process: worker app:room {a@b|c} (os process 2, sleeping)",
        "monitors: 3 more than at the start",
        "timers: 1 more than at the start",
    ]
    assert more.left_since(before, ["app:room"]) == ["monitors: 1 more than at the start"]
    assert more.left_since(more) == []
    assert before.left_since(more) == []
    leaky = snapshot(ProcessView("supervisor", 1, descriptors=11))
    assert leaky.left_since(before) == ["descriptors of the supervisor: 11, at the start 10"]
    assert snapshot(ProcessView("worker", 2, state="running")).idle is False
    assert snapshot(ProcessView("worker", 2, state="stopped")).idle is True
    assert snapshot(connections=1).resting is False
    assert snapshot(gateway=0).resting is False
    assert snapshot(workers=1).resting is False


def test_the_names_that_are_handed_on() -> None:
    assert set(faults.__all__) == {*faults._HOME_OF, "strategies"}
    for name in faults.__all__:
        assert getattr(faults, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = faults.Nothing
