"""Real runtimes that keep journals: what happens is written down, and the checker finds nothing in it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.journaled import APP, ENTRIES, Run, journaled_runtime
from support.runtime import running_runtime
from support.waiting import wait_until
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from wsrelay.kernel.wire import journal_records as j
from wsrelay.tools.faults.checker import check, story


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    with journaled_runtime(tmp_path) as running:
        yield running


def test_crashes_links_and_monitors(run: Run) -> None:
    with connect(run.runtime.ws_url("/room")) as client:
        run.book.client_opened("a")
        for how in ("raise", "kill", "return"):
            client.send(f"spawn {how}")
        client.send("go")
        run.wait_for(j.Note, lambda note: note.what == "exit", 6)
        client.send("terminate")
        run.wait_for(j.Note, lambda note: note.what == "exit", 7)
        client.send("look")
        run.wait_for(j.MembersListed)
        run.send(client, "a", range(1, 11))
        run.wait_for(j.NumberReceived, lambda item: item.stream == "a", 10)
        assert check(run.entries()) == []
        client.send("close")
        assert run.closed(client, "a") == 4001
    entries = run.entries()
    deaths = [entry.record for entry in entries if isinstance(entry.record, j.Died)]
    kinds = [death.kind for death in deaths if not death.origin]
    assert {"exception", "signal:SIGSEGV", "killed", "normal"} <= set(kinds)
    assert {"exception", "signal:SIGSEGV"} <= {death.kind for death in deaths if death.origin}
    [segfault] = [death.pid for death in deaths if death.kind == "signal:SIGSEGV" and not death.origin]
    told = [type(entry.record).__name__ for entry in story(entries, segfault) if entry.role == "supervisor"]
    assert told[0] == "Spawned"
    at = told.index("Died")
    assert told[at : at + 4] == ["Died", "ExitTold", "ExitTold", "LinkDownTold"]


def test_a_stream_through_transfers(run: Run) -> None:
    with connect(run.runtime.ws_url("/handed")) as client:
        for holder in range(1, 6):
            run.send(client, "h", range(8 * holder - 7, 8 * holder + 1))
            run.wait_for(j.Joined, times=holder + 1)
        run.wait_for(j.NumberReceived, lambda item: item.stream == "h", 40)
        run.close(client, "h")
    run.wait_for(j.ConnectionOver)


def test_the_gateway_is_killed(run: Run) -> None:
    with connect(run.runtime.ws_url("/room")) as client:
        run.send(client, "g", range(1, 6))
        run.wait_for(j.NumberReceived, times=5)
        run.book.fault("kill gateway", run.runtime.gateway)
        os.kill(run.runtime.gateway, signal.SIGKILL)
        assert run.closed(client, "g") == 1006
    run.wait_for(j.GatewayServes, times=2)
    run.wait_for(j.Readable, lambda arrived: arrived.kind == "gateway_lost")
    with connect(run.runtime.ws_url("/room")) as client:
        run.send(client, "g2", range(1, 6))
        run.wait_for(j.NumberReceived, lambda item: item.stream == "g2", 5)
        client.send("return")
        assert run.closed(client, "g2") == 1000


def test_a_target_and_a_service_die(run: Run) -> None:
    with connect(run.runtime.ws_url("/room")) as client:
        run.send(client, "d", range(1, 6))
        client.send("die")
        assert run.closed(client, "d") == 1011
    for times in (1, 2):
        run.wait_for(j.ServiceChanged, lambda change: change == ("app:flaky_service", "running"), times)
        os.kill(run.born("app:flaky"), signal.SIGKILL)
    run.wait_for(j.ServiceChanged, lambda change: change == ("app:flaky_service", "running"), 3)


def test_a_process_is_followed_across_its_upgrade(run: Run) -> None:  # S35
    with connect(run.runtime.ws_url("/room")) as client:
        run.send(client, "u", range(1, 6))
        client.send("upgrade")
        run.send(client, "u", range(6, 11))
        run.wait_for(j.NumberReceived, lambda item: item.stream == "u", 10)
        assert run.count(j.Upgraded) == 1
        assert check(run.entries()) == []
        run.close(client, "u")
    births = [entry.record for entry in run.entries() if isinstance(entry.record, j.Born)]
    [room] = [entry.record.pid for entry in run.entries() if isinstance(entry.record, j.Upgraded)]
    assert len({birth.os_pid for birth in births if birth.pid == room}) == 2
    assert run.count(j.Died, lambda died: died.pid == room) == 0


def test_a_held_connection_is_followed(run: Run) -> None:  # S56
    run.wait_for(j.ServiceChanged, lambda change: change.state == "running", 2)
    with connect(run.runtime.ws_url("/held")) as client:
        for times in (1, 2, 3):
            run.send(client, "w", range(4 * times - 3, 4 * times + 1))
            run.wait_for(j.NumberReceived, lambda item: item.stream == "w", 4 * times)
            run.wait_for(j.Joined, times=times)
            if times < 3:
                os.kill(run.born("app:held"), signal.SIGKILL)
                run.wait_for(j.Died, lambda died: died.kind == "signal:SIGKILL", times)
        run.wait_for(j.Readable, lambda arrived: arrived.kind == "resumed", 2)
        assert check(run.entries()) == []
        run.close(client, "w")


def test_no_journal_is_kept_unless_it_is_asked_for(tmp_path: Path) -> None:
    with running_runtime(tmp_path, ENTRIES, {"app.py": APP}) as runtime, connect(runtime.ws_url("/room")) as client:
        client.send("off 1")
        client.send("return")
        with pytest.raises(ConnectionClosed):
            client.recv(timeout=30)
    assert not list(tmp_path.rglob("*.journal"))


def test_a_reload_with_new_code(run: Run) -> None:
    def states(wanted: str) -> int:
        """How often each of the two services, which run the same code, was in this state: the same for both."""
        counts = {
            run.count(j.ServiceChanged, lambda change: (change.service, change.state) == (service, wanted))  # noqa: B023
            for service in ("app:held_service", "app:flaky_service")
        }
        (count,) = counts
        return count

    with connect(run.runtime.ws_url("/room")) as client:
        run.book.client_opened("a")
        run.send(client, "a", range(1, 6))
        run.wait_for(j.ServiceChanged, lambda change: change.state == "running", 2)
        for times in (1, 2):
            with (run.runtime.folder / "app.py").open("a") as file:
                file.write("# more\n")
            run.runtime.process.send_signal(signal.SIGHUP)
            wait_until(lambda times=times: run.runtime.log().count("reloaded in") == times)  # type: ignore[misc]
            assert (states("replacing"), states("running")) == (times, times + 1)
        run.send(client, "a", range(6, 11))
        run.wait_for(j.NumberReceived, lambda item: item.stream == "a", 10)
        run.close(client, "a")
