"""Failpoints in a real runtime: each is reached, and a fault at one of them breaks no invariant."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Iterable, Iterator
from pathlib import Path

import psutil
import pytest
from support.journaled import Run, journaled_runtime
from support.waiting import wait_until
from websockets.sync.client import ClientConnection, connect
from wsrelay.kernel.wire import journal_records as j
from wsrelay.tools.faults.failpoints import FAILPOINTS, HOLD, Controller, Hit, Step


@contextlib.contextmanager
def held_runtime(tmp_path: Path, *names: str, schedule: Iterable[Step] = ()) -> Iterator[tuple[Controller, Run]]:
    """A runtime whose processes ask at these failpoints, or at all."""
    with contextlib.ExitStack() as stack:
        controller = stack.enter_context(Controller(tmp_path / "points", schedule))
        yield controller, stack.enter_context(journaled_runtime(tmp_path, controller.environment(names or None)))


def spawn_children(run: Run, client: ClientConnection, *hows: str) -> None:
    """Have the room spawn children, and let them go on to their ends."""
    for how in hows:
        client.send(f"spawn {how}")
    client.send("go")


def deaths(run: Run, entry: str) -> list[str]:
    """The kinds of the deaths of all processes of an entry that died of their own."""
    entries = [one.record for one in run.entries()]
    pids = {record.pid for record in entries if isinstance(record, j.Spawned) and record.entry == entry}
    return [
        record.kind for record in entries if isinstance(record, j.Died) and record.pid in pids and not record.origin
    ]


def test_every_failpoint_is_reached(tmp_path: Path) -> None:
    with held_runtime(tmp_path) as (controller, run):
        with connect(run.runtime.ws_url("/room")) as client:
            spawn_children(run, client, "raise")
            run.wait_for(j.Note, lambda note: note.what == "exit", 2)
            os.kill(run.born("app:flaky"), signal.SIGKILL)
            run.wait_for(j.ServiceChanged, lambda change: change == ("app:flaky_service", "running"), 2)
            client.send("upgrade")
            controller.wait_hit("upgrade.resumed")
            client.send("close")
            assert run.closed(client, "r") == 4001
        with connect(run.runtime.ws_url("/handed")) as client:
            run.send(client, "h", range(1, 6))
            controller.wait_hit("transfer.joined")
            run.book.fault("kill gateway")
            os.kill(run.runtime.gateway, signal.SIGKILL)
            assert run.closed(client, "h") == 1006
        run.wait_for(j.GatewayServes, times=2)
        os.kill(host_of(run), signal.SIGKILL)
        controller.wait_hit("host.restarted")
        os.kill(run.runtime.supervisor, signal.SIGHUP)
        controller.wait_hit("reload.committed")
        assert controller.reached() == set(FAILPOINTS)
        assert {hit.name: hit.role for hit in controller.hits} == {
            name: point.role for name, point in FAILPOINTS.items()
        }


def host_of(run: Run) -> int:
    """The os_pid of the host: the process with its command line that is no worker forked by it."""
    births = {one.record.os_pid for one in run.entries() if isinstance(one.record, j.Born)}
    hosts = [os_pid for os_pid, command in run.runtime.processes().items() if "workers.shell.host" in command]
    [host] = [os_pid for os_pid in hosts if os_pid not in births]
    return host


def test_a_death_is_told_when_it_is_published(tmp_path: Path) -> None:  # S14, S15
    with held_runtime(tmp_path, "death.committed") as (controller, run), connect(run.runtime.ws_url("/room")) as client:
        controller.arm_next("death.committed")
        spawn_children(run, client, "raise")
        hit = controller.wait_hit("death.committed")
        assert hit.os_pid == run.runtime.supervisor
        assert run.count(j.ExitTold) == 2
        assert run.count(j.Readable, lambda arrived: arrived.what == "EXIT") == 0
        controller.release(hit)
        run.wait_for(j.Readable, lambda arrived: arrived.what == "EXIT", 2)
        client.close()


def test_last_words_come_before_the_notice(tmp_path: Path) -> None:  # S14: drain, then deliver
    """A worker says much and dies while the supervisor stands still: then its words and its death are there at once."""
    names = ("message.handed", "death.noticed")
    with held_runtime(tmp_path, *names) as (controller, run), connect(run.runtime.ws_url("/room")) as client:
        client.send("spawn flood")
        run.wait_for(j.GroupJoined, lambda joined: joined.group == "children")
        room_gets_go = controller.arm_next("message.handed")
        controller.arm("message.handed", room_gets_go + 1)
        child = run.born("app:child")
        client.send("go")
        controller.release(controller.wait_hit("message.handed", room_gets_go))
        at_child = controller.wait_hit("message.handed", room_gets_go + 1)
        assert at_child.os_pid == child
        controller.arm_next("death.noticed")
        os.kill(run.born("app:flaky"), signal.SIGKILL)
        at_supervisor = controller.wait_hit("death.noticed")
        controller.release(at_child)
        wait_until(lambda: psutil.Process(child).status() == psutil.STATUS_ZOMBIE, 30)
        controller.release(at_supervisor)
        run.wait_for(j.Note, lambda note: note.what == "exit", 2)
        assert run.count(j.Readable, lambda arrived: arrived.topic == "item") == 20
        client.close()


@pytest.mark.parametrize("name", ["transfer.requested", "transfer.cut", "transfer.joined"])
def test_the_gateway_dies_in_a_transfer(tmp_path: Path, name: str) -> None:  # S41, S47
    with held_runtime(tmp_path, name, schedule=[Step(name, 1, "SIGKILL")]) as (_, run):
        with connect(run.runtime.ws_url("/handed")) as client:
            run.send(client, "h", range(1, 6))
            assert run.closed(client, "h") == 1006
        run.wait_for(j.GatewayServes, times=2)
        run.wait_for(j.Died, lambda died: died.kind == "noconnection")


def test_a_host_dies_before_it_has_told_of_a_fork(tmp_path: Path) -> None:  # S41a, S16
    with held_runtime(tmp_path, "spawn.forked") as (controller, run):
        with connect(run.runtime.ws_url("/room")) as client:
            client.send("look")
            run.wait_for(j.MembersListed)  # the room runs: no fork of its own is under way
            controller.arm_next("spawn.forked", "SIGKILL")
            client.send("spawn wait")
            run.wait_for(j.Note, lambda note: note.what == "exit", 2)
            client.close()
        assert deaths(run, "app:child") == ["noconnection"]


def test_a_worker_is_killed_behind_its_report(tmp_path: Path) -> None:  # S12: the wait status decides
    with held_runtime(tmp_path, "exit.report.written") as (controller, run):
        with connect(run.runtime.ws_url("/room")) as client:
            controller.arm_next("exit.report.written")
            spawn_children(run, client, "return")
            hit = controller.wait_hit("exit.report.written")
            controller.release(hit, "SIGKILL")
            run.wait_for(j.Note, lambda note: note.what == "exit", 2)
            client.close()
        assert deaths(run, "app:child") == ["signal:SIGKILL"]


@pytest.mark.parametrize("name", ["upgrade.handed_over", "upgrade.reaped", "upgrade.resumed"])
def test_a_process_is_killed_in_its_upgrade(tmp_path: Path, name: str) -> None:  # S35: it ends once, like any
    with held_runtime(tmp_path, name) as (controller, run), connect(run.runtime.ws_url("/room")) as client:
        run.send(client, "u", range(1, 4))
        run.wait_for(j.NumberReceived, times=3)
        controller.arm_next(name)
        client.send("upgrade")
        hit = controller.wait_hit(name)
        [role] = {"upgrade.reaped": ["supervisor"]}.get(name, ["worker"])
        assert hit.role == role
        if role == "worker":
            controller.release(hit, "SIGKILL")
            assert run.closed(client, "u") == 1011
        else:
            controller.release(hit)
            run.send(client, "u", range(4, 7))
            run.wait_for(j.NumberReceived, times=6)
            run.close(client, "u")
    assert run.count(j.Died, lambda died: died.kind == "signal:SIGKILL") == (role == "worker")


def test_a_schedule_is_a_value(tmp_path: Path) -> None:
    with Controller(tmp_path / "points", [Step("death.reaped", 3), Step("close.sent", 1, "SIGKILL")]) as controller:
        again = eval(repr(controller.schedule))
        assert again == controller.schedule == (Step("death.reaped", 3, HOLD), Step("close.sent", 1, "SIGKILL"))


@pytest.mark.parametrize("step", [("no.such", 1, HOLD), ("close.sent", 0, HOLD), ("close.sent", 1, "SIGNOTHING")])
def test_a_step_that_cannot_be_is_refused(tmp_path: Path, step: tuple[str, int, str]) -> None:
    with Controller(tmp_path / "points") as controller, pytest.raises(ValueError, match=r"expected|counted"):
        controller.arm(*step)


def say(path: Path, name: str) -> socket.socket:
    """Come to a failpoint, as a process does."""
    channel = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    channel.settimeout(30)
    channel.connect(str(path))
    channel.send(f"{name}\0supervisor\0{os.getpid()}".encode())
    return channel


def test_one_that_says_nothing_holds_nobody_up(tmp_path: Path) -> None:
    path = tmp_path / "points"
    with Controller(path), socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as stopped:
        stopped.connect(str(path))
        with say(path, "death.reaped") as other:
            other.settimeout(3)
            assert other.recv(64) == b"go"


def test_hits_are_counted_and_held(tmp_path: Path) -> None:
    path = tmp_path / "points"
    with Controller(path, [Step("death.reaped", 2), Step("death.reaped", 3, "SIGTERM")]) as controller:
        with say(path, "death.reaped") as first:
            assert first.recv(64) == b"go"
        with say(path, "death.reaped") as second:
            hit = controller.wait_hit("death.reaped", 2)
            assert hit == Hit("death.reaped", 2, "supervisor", os.getpid())
            controller.release(hit)
            assert second.recv(64) == b"go"
            with pytest.raises(KeyError):
                controller.release(hit)
        with say(path, "death.reaped") as third:
            assert third.recv(64) == b"die 15"
        with pytest.raises(TimeoutError, match="3 times"):
            controller.wait_hit("death.reaped", 4, timeout=0.01)


def test_what_is_armed_can_be_withdrawn(tmp_path: Path) -> None:
    path = tmp_path / "points"
    with Controller(path, [Step("death.reaped", 1), Step("death.reaped", 2)]) as controller:
        with say(path, "death.reaped") as first:
            hit = controller.wait_hit("death.reaped")
            assert controller.withdraw("death.reaped", 1) == hit
            controller.release(hit)
            assert first.recv(64) == b"go"
        assert controller.withdraw("death.reaped", 2) is None
        with say(path, "death.reaped") as second:
            assert second.recv(64) == b"go"
        controller.arm("death.reaped", 3)
        controller.forget()
        assert controller.hits == []
        with say(path, "death.reaped") as third:
            assert third.recv(64) == b"go"
        assert controller.wait_hit("death.reaped", 3).nth == 3


def test_the_next_hit_is_waited_for_by_its_number(tmp_path: Path) -> None:
    # as docs/journal.md has it: without the number, what was hit long ago is found
    path = tmp_path / "points"
    with Controller(path) as controller:
        for expected in (1, 2, 3):
            nth = controller.arm_next("death.reaped")
            assert nth == expected
            with say(path, "death.reaped") as held:
                hit = controller.wait_hit("death.reaped", nth)
                assert hit.nth == nth
                controller.release(hit)
                assert held.recv(64) == b"go"


def test_nobody_stays_blocked_when_the_controller_ends(tmp_path: Path) -> None:
    path = tmp_path / "points"
    controller = Controller(path, [Step("death.reaped")])
    with say(path, "death.reaped") as held:
        controller.wait_hit("death.reaped")
        controller.close()
        assert held.recv(64) == b"go"
    controller.close()
    wait_until(lambda: not path.exists())


def test_garbage_at_the_controller_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "points"
    with Controller(path) as controller:
        with say(path, "death.reaped\0too\0many") as channel:
            assert channel.recv(64) == b""
        assert controller.hits == []


def test_the_page_lists_every_failpoint() -> None:
    page = (Path(__file__).parent.parent.parent / "docs" / "journal.md").read_text()
    for name, (role, where) in FAILPOINTS.items():
        assert f"| `{name}` | {role} | {where} |" in page, (
            "the failpoints have changed: docs/journal.md has their table"
        )
