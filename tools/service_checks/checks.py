"""The checks: each is a function; they run in order and build on each other's service."""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from .application import (
    APPLICATION,
    CONFINED,
    CONFINED_HOST,
    CONFINED_PORT,
    CONFINED_UNIT,
    PORT,
    STORED_PORT,
    UNIT,
    WSRELAY,
    configure,
)
from .asking import (
    ask,
    close_code,
    exposure,
    journal,
    listener_inode,
    look,
    open_line,
    processes,
    run,
    settings,
    show,
    status,
    status_of,
    supervisor,
    wait_active,
    wait_until,
)

MOST_EXPOSED = 2.5
NOTIFY_RELOAD = 253
"""The first systemd that has Type=notify-reload."""

Check = Callable[[], None]
CHECKS: list[Check] = []


def check(function: Check) -> Check:
    """Add a check."""
    CHECKS.append(function)
    return function


@check
def install_writes_units_that_systemd_understands() -> None:
    configure(APPLICATION, PORT)
    run(WSRELAY, "install-unit", str(APPLICATION))
    units = [f"/etc/systemd/system/wsrelay.{kind}" for kind in ("service", "socket")]
    complaints = run("systemd-analyze", "verify", *units)
    assert not complaints, complaints


@check
def the_shipped_units_are_understood_too() -> None:
    folder = Path("/etc/wsrelay/relay")
    configure(folder, STORED_PORT)
    for file in Path("/mnt/deploy/systemd").iterdir():
        if "@" in file.name:
            Path("/etc/systemd/system", file.name).write_text(file.read_text())
    complaints = run("systemd-analyze", "verify", "wsrelay@relay.service")
    assert not complaints, complaints


@check
def start_waits_until_it_serves() -> None:
    run("systemctl", "daemon-reload")
    run("systemctl", "enable", "--now", "wsrelay.socket", UNIT)
    assert show("ActiveState") == "active"
    version = int(run("systemctl", "--version").split()[1])
    assert show("Type") == ("notify-reload" if version >= NOTIFY_RELOAD else "notify")
    assert "1 of 1 services run" in show("StatusText"), show("StatusText")
    with open_line() as line:
        assert ask(line, "hello") == "hello"
        wait_until(lambda: ": 1 connections" in show("StatusText"), f"the status to count, not {show('StatusText')}")


@check
def the_sandbox_is_tight_and_workers_work_in_it() -> None:
    assert exposure() <= MOST_EXPOSED
    assert look()["user"] != 0


@check
def a_host_with_a_user_leaves_the_sandbox_tight_and_nobody_else_with_capabilities() -> None:
    configure(CONFINED, CONFINED_PORT, CONFINED_HOST)
    run(WSRELAY, "install-unit", str(CONFINED), "--name", CONFINED_UNIT.removesuffix(".service"))
    run("systemctl", "daemon-reload")
    run("systemctl", "start", CONFINED_UNIT)
    assert exposure(CONFINED_UNIT) <= MOST_EXPOSED
    nobody = pwd.getpwnam("nobody").pw_uid
    assert look(CONFINED_PORT)["user"] == nobody
    main = int(show("MainPID", CONFINED_UNIT))
    every = processes(CONFINED_UNIT)
    assert 0 not in {int(status(each, "Uid").split()[0]) for each in every}
    trusted = {each for each in every if int(status(each, "CapPrm"), 16)}
    assert trusted == {main, supervisor(CONFINED_UNIT)}
    with open_line(CONFINED_PORT) as other:
        for excess in ("eat", "fill"):
            with open_line(CONFINED_PORT) as line:
                folder = Path(f"/proc/{main}/root{ask(line, 'where')}")
                assert folder.stat().st_uid == nobody
                line.send(excess)
                assert close_code(line) == 1011
            wait_until(lambda: not folder.exists(), "the folder of a worker that has ended to go")  # noqa: B023
        assert ask(other, "still there") == "still there"
    assert journal("--unit", CONFINED_UNIT, "WSRELAY_REASON=limit:oom")
    assert journal("--unit", CONFINED_UNIT, "WSRELAY_REASON=limit:disk")
    run("systemctl", "stop", "confined.socket", CONFINED_UNIT)
    assert processes(CONFINED_UNIT) == []
    assert show("Result", CONFINED_UNIT) == "success"


@check
def hosts_and_gateway_go_beyond_the_cpu_affinity_of_the_unit() -> None:
    here, there = min(os.sched_getaffinity(0)), max(os.sched_getaffinity(0))
    if here == there:
        print("# one processor: nothing to tell apart")
        return
    index = APPLICATION / "_index.yaml"
    text = index.read_text()
    index.write_text(re.sub(r"(kind: (?:http\.service|process\.host),)", rf"\1 cpu_affinity: {there},", text))
    try:
        with settings(f"[Service]\nCPUAffinity={here}\n"):
            run("systemctl", "restart", UNIT)
            look()  # a function worker is born
            trusted = {int(show("MainPID")), supervisor()}
            for each in processes():
                assert os.sched_getaffinity(each) == {here if each in trusted else there}, each
    finally:
        index.write_text(text)
    run("systemctl", "restart", UNIT)


@check
def a_worker_has_nothing_of_the_service_manager() -> None:
    seen = look()
    assert seen["environment"] == []
    # Standard input, the journal twice, two channels, and the pipe that wakes it.
    assert all(what.startswith(("/dev/null", "socket:", "pipe:")) for what in seen["descriptors"]), seen
    assert len(seen["descriptors"]) <= 7, seen
    with open_line() as line:
        ask(line, "lie")
    assert show("ActiveState") == "active"
    assert "a worker says so" not in show("StatusText")


@check
def a_worker_over_its_limit_ends_alone() -> None:
    with open_line() as other, open_line() as line:
        line.send("eat")
        assert close_code(line) == 1011
        assert ask(other, "still there") == "still there"
    assert (show("ActiveState"), show("NRestarts")) == ("active", "0")


@check
def the_journal_has_fields() -> None:
    with open_line() as line:
        assert ask(line, "log") == "log"
        line.send("crash")
        assert close_code(line) == 1011

    def written() -> bool:
        return bool(journal("WSRELAY_ENTRY=app:act", "WSRELAY_REASON=exception"))

    wait_until(written, "the entry of a death")
    [death] = journal("WSRELAY_ENTRY=app:act", "WSRELAY_REASON=exception")
    assert death["WSRELAY_HOST"] == "app:processes"
    assert death["WSRELAY_PID"].startswith("{")
    assert death["PRIORITY"] == "4"
    assert death["_SYSTEMD_UNIT"] == UNIT
    assert death["MESSAGE"].endswith("ValueError: two\nlines"), death
    own = journal("LOGGER=application", f"WSRELAY_PID={death['WSRELAY_PID']}")
    assert [entry["MESSAGE"][:22] for entry in own] == ["first line\nsecond line", "long " + "x" * 17], own
    assert len(own[1]["MESSAGE"]) == 400_005
    assert own[0]["_PID"] != death["_PID"]
    assert journal("WSRELAY_SERVICE=app:steady.service", "WSRELAY_STATE=running")


@check
def restart_keeps_a_waiting_connection() -> None:
    old = supervisor()
    with open_line() as line:
        run("systemctl", "--no-block", "restart", UNIT)
        assert close_code(line) in (1001, 1012)
        with open_line() as again:
            assert ask(again, "after") == "after"
    wait_active()
    assert supervisor() != old


@check
def a_stopped_service_is_started_by_a_connection() -> None:
    run("systemctl", "stop", UNIT)
    assert processes() == []
    assert show("Result") == "success"
    with open_line() as line:
        assert ask(line, "wake up") == "wake up"
    wait_active()


@check
def a_socket_that_fits_nothing_is_an_error_that_says_so() -> None:
    run("systemctl", "stop", UNIT, "wsrelay.socket")
    with settings("[Socket]\nFileDescriptorName=front\n", "wsrelay.socket"), settings("[Service]\nRestart=no\n"):
        failed = subprocess.run(["systemctl", "start", UNIT], check=False, capture_output=True)
        assert failed.returncode != 0
        wait_until(
            lambda: any("expected one of" in str(entry.get("MESSAGE")) for entry in journal("--unit", UNIT)),
            "the reason",
        )
    run("systemctl", "reset-failed")
    run("systemctl", "start", "wsrelay.socket", UNIT)


@check
def reload_waits_until_it_is_done_and_fails_if_it_is_refused() -> None:
    index, main = APPLICATION / "_index.yaml", show("MainPID")
    text = index.read_text()
    more = "  - {name: more, kind: http.endpoint, meta: {router: router}, method: GET, path: /more, func: look}\n"
    with open_line() as line:
        assert status_of("/more") == 404
        index.write_text(text + more)
        run("systemctl", "reload", UNIT)
        assert status_of("/more") == 200
        index.write_text(text + "  - {name: bad, kind: http.nothing}\n")
        refused = subprocess.run(["systemctl", "reload", UNIT], check=False, capture_output=True)
        assert refused.returncode != 0, "a bad configuration is refused"
        assert show("ActiveState") == "active"
        assert status_of("/more") == 200
        wait_until(
            lambda: any("http.nothing" in str(each.get("MESSAGE")) for each in journal("--unit", UNIT)), "the reason"
        )
        index.write_text(text)
        os.kill(int(main), signal.SIGHUP)
        wait_until(lambda: status_of("/more") == 404, "the reload by SIGHUP")
        wait_until(lambda: show("StatusText").startswith("serving"), "the status")
        assert ask(line, "hello") == "hello"
    assert show("MainPID") == main
    told = run(WSRELAY, "status", "--run-directory", "/run/wsrelay/control")
    assert "service app:steady.service: running" in told, told


@check
def sigkill_of_the_main_process_leaves_nothing_and_it_comes_back() -> None:
    run("systemctl", "reset-failed", UNIT)
    with open_line() as line:
        ask(line, "hello")
        old = set(processes())
        os.kill(int(show("MainPID")), signal.SIGKILL)
        wait_until(lambda: show("NRestarts") == "1", "the restart")
        wait_active()
        assert not old & set(processes())
        assert not [each for each in old if Path(f"/proc/{each}").exists()]
    with open_line() as line:
        assert ask(line, "again") == "again"


@check
def a_supervisor_that_dies_is_restarted() -> None:
    old = set(processes())
    before = int(show("NRestarts"))
    os.kill(supervisor(), signal.SIGKILL)
    wait_until(lambda: int(show("NRestarts")) > before, "the restart")
    wait_active()
    assert not [each for each in old if Path(f"/proc/{each}").exists()]


@check
def a_supervisor_that_hangs_is_ended_by_the_watchdog() -> None:
    with settings("[Service]\nWatchdogSec=2s\nTimeoutAbortSec=1s\n"):
        run("systemctl", "restart", UNIT)
        before = int(show("NRestarts"))
        old = set(processes())
        os.kill(supervisor(), signal.SIGSTOP)
        wait_until(lambda: int(show("NRestarts")) > before, "the restart")
        wait_active()
        assert not [each for each in old if Path(f"/proc/{each}").exists()]
        assert any("watchdog" in str(entry.get("MESSAGE", "")).lower() for entry in journal("--unit", UNIT, "_PID=1"))


@check
def what_it_binds_itself_is_kept_over_a_restart() -> None:
    unit = "wsrelay@relay.service"
    if Path(sys.base_prefix).is_relative_to("/root"):
        allow = Path(f"/run/systemd/system/{unit}.d/home.conf")
        allow.parent.mkdir()
        allow.write_text("[Service]\nProtectHome=read-only\n")
        run("systemctl", "daemon-reload")
    run("systemctl", "start", unit)
    with open_line(STORED_PORT) as line:
        inode = listener_inode(STORED_PORT)
        run("systemctl", "--no-block", "restart", unit)
        assert close_code(line) in (1001, 1012)
        with open_line(STORED_PORT) as again:
            assert ask(again, "after") == "after"
    assert listener_inode(STORED_PORT) == inode
    run("systemctl", "stop", unit)
    with contextlib.suppress(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", STORED_PORT)).close()
        raise AssertionError("somebody still listens")


@check
def stop_is_clean() -> None:
    with open_line() as line:
        run("systemctl", "stop", "wsrelay.socket", UNIT)
        assert close_code(line) == 1001
    assert show("Result") == "success"
    assert processes() == []
