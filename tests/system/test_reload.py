"""A reload of a real runtime: who gets new code, who keeps the old, and what nobody notices (S3, S35, S37, S41, S49, S56)."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.clients import close_of
from support.reloading import ACTORS, BASE, ROUTES, ask, changes, get, reload, said, service, source
from support.runtime import Runtime, endpoint, running_runtime, write_application
from support.waiting import wait_until
from websockets.sync.client import connect


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[Runtime]:
    with running_runtime(tmp_path, [*BASE, service()], source("one")) as running:
        yield running


def test_a_reload_of_the_same_drops_nobody_and_replaces_the_hosts(runtime: Runtime) -> None:
    with connect(runtime.ws_url("/echo")) as client, connect(runtime.ws_url("/named")) as served:
        before = said(client, "a"), said(served, "a")
        gateway = runtime.gateway
        hosts = [view.os_pid for view in runtime.ps() if view.kind == "host"]
        assert "the configuration is the same" in reload(runtime)
        wait_until(lambda: not {view.os_pid for view in runtime.ps()} & set(hosts), message="the old fork server to go")
        assert (said(client, "a"), said(served, "a")) == before
        assert runtime.gateway == gateway
    assert "service app:served.service: replacing" not in runtime.log()


def test_new_code_runs_in_what_starts_and_services_restart(runtime: Runtime) -> None:  # S49
    with connect(runtime.ws_url("/echo")) as client, connect(runtime.ws_url("/named")) as served:
        old = said(client, "a")
        assert old[0] == "one"
        assert said(served, "a")[0] == "one"
        changes(runtime, *BASE, service(), version="number two")
        told = reload(runtime)
        assert "new code: app:processes" in told
        assert "app:served.service: restarted, running" in told
        assert close_of(served)[0] == 1012
        assert said(client, "a") == old, "who lives keeps his code"
        assert get(runtime, "/version") == (200, "number two")
        with connect(runtime.ws_url("/echo")) as other, connect(runtime.ws_url("/named")) as again:
            assert said(other, "a")[:2] == said(again, "a")[:1] + said(other, "a")[1:2] == ["number", "two"]


def test_held_clients_do_not_notice(runtime: Runtime) -> None:  # S56
    with connect(runtime.ws_url("/held")) as client:
        assert said(client, "a")[0] == "one"
        changes(runtime, *BASE, service(), version="two")
        reload(runtime)
        assert said(client, "a")[0] == "two"


def test_who_is_notified_can_upgrade_itself(tmp_path: Path) -> None:  # S35
    upgrading = service("upgrading", "upgrading", on_reload="notify")
    entries = [*BASE, *endpoint("/upgrading", "open_upgrading"), upgrading]
    with (
        running_runtime(tmp_path, entries, source("one")) as runtime,
        connect(runtime.ws_url("/upgrading")) as client,
    ):
        client.send("a")
        version, pid, _ = str(client.recv(timeout=60)).rsplit(" ", 2)
        assert version == "one"
        changes(runtime, *entries, version="two")
        assert "app:upgrading.service: notified" in reload(runtime)
        client.send("b")
        assert client.recv(timeout=60) == f"two {pid} b", "the same process, with its client, and new code"


def test_who_keeps_and_who_is_notified(tmp_path: Path) -> None:
    keeping = [service("kept", on_reload="keep"), service(on_reload="notify")]
    with (
        running_runtime(tmp_path, [*BASE, *keeping], source("one")) as runtime,
        connect(runtime.ws_url("/named")) as client,
    ):
        before = said(client, "a")
        changes(runtime, *BASE, *keeping, version="two")
        told = reload(runtime)
        assert "app:served.service: notified" in told
        assert "app:kept.service" not in told
        assert said(client, "a") == [*before, "told"]
        assert "app:kept.service" not in reload(runtime, "--restart"), "not even then"


def test_a_bad_configuration_changes_nothing(runtime: Runtime) -> None:
    with connect(runtime.ws_url("/echo")) as client:
        before, processes = said(client, "a"), set(runtime.processes())
        changes(runtime, *BASE, service(), {"name": "x", "kind": "process.pythn"}, version="two")
        refused = ask(runtime, "reload", str(runtime.folder))
        assert refused.returncode == 1
        assert "process.pythn" in refused.stderr
        wait_until(lambda: "the reload changes nothing" in runtime.log(), message=runtime.log)
        (runtime.folder / "_index.yaml").write_text("entries: [")
        runtime.process.send_signal(signal.SIGHUP)
        wait_until(lambda: runtime.log().count("the reload changes nothing") >= 2, message=runtime.log)
        assert said(client, "a") == before
        assert set(runtime.processes()) == processes
        assert get(runtime, "/version") == (200, "one")


def test_a_module_that_fails_to_import_is_the_end_of_who_runs_it(runtime: Runtime) -> None:  # S3
    with connect(runtime.ws_url("/echo")) as client:
        before = said(client, "a")
        changes(runtime, *BASE, service())
        (runtime.folder / "app.py").write_text((runtime.folder / "app.py").read_text() + "\n1 / 0\n")
        told = ask(runtime, "reload")
        assert told.returncode == 1
        assert "app:served.service: not back" in told.stderr
        assert said(client, "a") == before
        assert get(runtime, "/version")[0] == 500
        write_application(runtime.folder, [*BASE, service()], source("mended"))
        ask(runtime, "reload")
        wait_until(lambda: get(runtime, "/version") == (200, "mended"))


def test_a_file_that_does_not_parse_is_refused(runtime: Runtime) -> None:
    (runtime.folder / "app.py").write_text("def f(:\n")
    refused = ask(runtime, "reload")
    assert (refused.returncode, "not valid Python" in refused.stderr) == (1, True)
    assert get(runtime, "/version") == (200, "one")


def test_two_at_once_are_done_one_after_the_other(runtime: Runtime) -> None:
    threads = [threading.Thread(target=reload, args=(runtime,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    runtime.process.send_signal(signal.SIGHUP)
    for thread in threads:
        thread.join()
    wait_until(lambda: runtime.log().count("reloaded in") >= 4, message=runtime.log)
    steps = [line for line in runtime.log().splitlines() if line.endswith("reloading") or "reloaded in" in line]
    assert [("reloaded" in step) for step in steps[:8]] == [False, True] * 4


def test_the_gateway_dies_in_the_midst_of_it(runtime: Runtime) -> None:  # S41
    killed = [False]
    late = [{**entry, "path": "/late"} if entry.get("path") == "/version" else entry for entry in ROUTES]
    changes(runtime, *BASE[:3], *ACTORS, *late, service())
    thread = threading.Thread(target=lambda: killed.append(ask(runtime, "reload").returncode == 0))
    gateway = runtime.gateway
    os.kill(gateway, signal.SIGSTOP)
    thread.start()
    wait_until(lambda: sum(view.kind == "host" for view in runtime.ps()) >= 1)
    wait_until(lambda: "reloading" in runtime.log())
    os.kill(gateway, signal.SIGKILL)
    thread.join()
    assert killed[-1], runtime.log()
    wait_until(lambda: get(runtime, "/late") == (200, "one"))


def test_a_stop_ends_it_and_none_begins_after_it(tmp_path: Path) -> None:
    deaf = {**service("deaf", "deaf"), "lifecycle": {"stop_timeout": "1s"}}
    with running_runtime(tmp_path, [*BASE, deaf, service()], source("one")) as runtime:
        changes(runtime, *BASE, deaf, service(), version="two")
        told: list[str] = []
        thread = threading.Thread(target=lambda: told.append(ask(runtime, "reload").stderr))
        thread.start()
        wait_until(lambda: "reloading" in runtime.log())
        runtime.process.send_signal(signal.SIGTERM)
        wait_until(lambda: "stopping" in runtime.log())
        runtime.process.send_signal(signal.SIGHUP)
        thread.join()
        assert told == ["the runtime stops: it does not finish this\n"]
        assert runtime.stop() == 0
    assert runtime.log().count("reloading") == 1


def test_load_does_not_notice(tmp_path: Path) -> None:
    """Requests all the time and clients that talk, over several reloads with new code: all are answered."""
    with running_runtime(tmp_path, [*BASE, service()], source("0")) as runtime, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(connect(runtime.ws_url(path))) for path in ("/echo", "/echo", "/held", "/held")]
        over, failed, done = threading.Event(), [], [0]

        def work(client: Any) -> None:
            number = 0
            while not over.is_set():
                number += 1
                try:
                    status, _ = get(runtime, "/version")
                    if status != 200:
                        failed.append((status, number))
                    client.send(str(number))
                    while not over.is_set():
                        try:
                            if client.recv(timeout=3).split()[2] == str(number):
                                break
                        except TimeoutError:  # the process that it was handed to is gone (S56)
                            client.send(str(number))
                    done[0] += 1
                except Exception as error:
                    failed.append((repr(error), number))
                    return

        threads = [threading.Thread(target=work, args=(client,)) for client in clients]
        for thread in threads:
            thread.start()
        for version in range(1, 4):
            before = done[0]
            changes(runtime, *BASE, service(), version="1" * version)
            reload(runtime)
            wait_until(lambda before=before: done[0] > before + 8 or bool(failed))  # type: ignore[misc]
        over.set()
        for thread in threads:
            thread.join()
        assert failed == []
        assert get(runtime, "/version") == (200, "111")
