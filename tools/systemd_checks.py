"""What a service that systemd runs is held to: run by tools/systemd-test, inside its container, with the installed Python.

Each check is a function; they run in order and build on each other's service. Nothing sleeps: everything is waited for.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import select
import signal
import socket
import subprocess
import sys
import time
import traceback
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from websockets.asyncio.client import connect as connect_asynchronously
from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.sync.client import ClientConnection, connect

APPLICATION = Path("/srv/relay")
WSRELAY = "/opt/wsrelay/bin/wsrelay"
UNIT = "wsrelay.service"
PORT, STORED_PORT = 8080, 8081
PATIENCE = 30.0
MOST_EXPOSED = 2.5
CLIENTS = 1000

INDEX = """\
version: "1.0"
namespace: app
entries:
  - {name: gateway, kind: http.service, addr: "127.0.0.1:PORT"}
  - {name: processes, kind: process.host, limits: {memory: 128MiB}}
  - {name: router, kind: http.router, meta: {server: gateway}, post_middleware: [websocket_relay]}
  - {name: connect, kind: function.python, source: "file://app.py", method: connect}
  - {name: connect.endpoint, kind: http.endpoint, meta: {router: router}, method: GET, path: /ws, func: connect}
  - {name: shared, kind: function.python, source: "file://app.py", method: shared}
  - {name: shared.endpoint, kind: http.endpoint, meta: {router: router}, method: GET, path: /shared, func: shared}
  - {name: look, kind: function.python, source: "file://app.py", method: look}
  - {name: look.endpoint, kind: http.endpoint, meta: {router: router}, method: GET, path: /look, func: look}
  - {name: act, kind: process.python, source: "file://app.py", method: act}
  - {name: steady, kind: process.python, source: "file://app.py", method: steady}
  - {name: steady.service, kind: process.service, process: steady, host: processes, register: steady}
"""

SOURCE = '''\
import json, logging, os, socket
from wsrelay.workers import http, process

def connect():
    http.response().relay_to(process.spawn("app:act", "app:processes"))

def shared():
    http.response().relay_to("steady")

def look():
    """What a worker has of the service manager: nothing."""
    seen = {"environment": [name for name in os.environ if name in
                            ("NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "WATCHDOG_USEC", "WATCHDOG_PID")],
            "descriptors": sorted(os.readlink(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd")
                                  if os.path.islink(f"/proc/self/fd/{number}")),
            "user": os.getuid(), "parent": os.getppid()}
    http.response().write(json.dumps(seen))

def act():
    for message in process.inbox():
        if message.topic != "ws.message":
            continue
        client, text = message.payload["client_pid"], message.payload["data"]
        if text == "eat":
            hoard = [b"x" * (8 << 20) for _ in range(100)]
        elif text == "crash":
            raise ValueError("two\\nlines")
        elif text == "log":
            logging.getLogger("application").warning("first line\\nsecond line")
            logging.getLogger("application").warning("long " + "x" * 400_000)
        elif text == "lie":
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
                end.sendto(b"STOPPING=1\\nSTATUS=a worker says so", "/run/systemd/notify")
        process.send(client, "ws.send", {"type": "text", "data": text})

def steady():
    while not isinstance(process.receive(), process.Cancel):
        pass
'''

Check = Callable[[], None]
CHECKS: list[Check] = []


def check(function: Check) -> Check:
    """Add a check."""
    CHECKS.append(function)
    return function


def run(*command: str) -> str:
    """Run a command; return what it printed. Raises AssertionError if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout + done.stderr


def wait_until(condition: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + PATIENCE
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited {PATIENCE:.0f} s for {what}"
        select.select([], [], [], 0.05)
    return value


def show(name: str, unit: str = UNIT) -> str:
    """A property of a unit."""
    return run("systemctl", "show", "--value", "--property", name, unit).strip()


def wait_active(unit: str = UNIT) -> None:
    wait_until(lambda: show("ActiveState", unit) == "active", f"{unit} to run")


def processes(unit: str = UNIT) -> list[int]:
    """Every process in the unit's control group."""
    group = show("ControlGroup", unit)
    if not group:
        return []
    found: list[int] = []
    for file in Path(f"/sys/fs/cgroup{group}").rglob("cgroup.procs"):
        with contextlib.suppress(FileNotFoundError):
            found += map(int, file.read_text().split())
    return found


def supervisor(unit: str = UNIT) -> int:
    """The child of the main process with the same command line."""
    main = int(show("MainPID", unit))
    command = Path(f"/proc/{main}/cmdline").read_bytes()
    [child] = [
        each for each in processes(unit) if each != main and Path(f"/proc/{each}/cmdline").read_bytes() == command
    ]
    return child


def journal(*matches: str) -> list[dict[str, Any]]:
    """Entries of the journal."""
    lines = run("journalctl", "--all", "--output", "json", "--no-pager", *matches).splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]


def open_line(port: int = PORT) -> ClientConnection:
    return connect(f"ws://127.0.0.1:{port}/ws", open_timeout=PATIENCE, proxy=None)


def ask(line: ClientConnection, text: str) -> str:
    line.send(text)
    return str(line.recv(timeout=PATIENCE))


def look() -> dict[str, Any]:
    with urllib.request.urlopen(f"http://127.0.0.1:{PORT}/look", timeout=PATIENCE) as answer:
        seen: dict[str, Any] = json.load(answer)
        return seen


def status_of(path: str) -> int:
    """The status that a request is answered with."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{PORT}{path}", timeout=PATIENCE) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def close_code(line: ClientConnection) -> int:
    """Read until the end; return how it ended."""
    try:
        while True:
            line.recv(timeout=PATIENCE)
    except ConnectionClosed:
        return line.close_code or 0


def configure(folder: Path, port: int) -> None:
    folder.mkdir(parents=True)
    folder.joinpath("_index.yaml").write_text(INDEX.replace("PORT", str(port)))
    folder.joinpath("app.py").write_text(SOURCE)


@contextlib.contextmanager
def settings(text: str, unit: str = UNIT) -> Iterator[None]:
    """A drop-in for the time of a check."""
    file = Path(f"/run/systemd/system/{unit}.d/check.conf")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    run("systemctl", "daemon-reload")
    try:
        yield
    finally:
        file.unlink()
        run("systemctl", "daemon-reload")


# --- the checks -------------------------------------------------------------------------------------------------------


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
    assert "1 of 1 services run" in show("StatusText"), show("StatusText")
    with open_line() as line:
        assert ask(line, "hello") == "hello"
        wait_until(lambda: ": 1 connections" in show("StatusText"), f"the status to count, not {show('StatusText')}")


@check
def the_sandbox_is_tight_and_workers_work_in_it() -> None:
    last = run("systemd-analyze", "security", "--no-pager", UNIT).strip().splitlines()[-1]
    score = float(last.split(": ")[1].split()[0])
    print(f"# {last.strip()}")
    assert score <= MOST_EXPOSED, last
    assert look()["user"] != 0


@check
def a_worker_has_nothing_of_the_service_manager() -> None:
    seen = look()
    assert seen["environment"] == []
    # Standard input, the journal twice, two channels, and the eventfd of its own writer.
    assert all(what.startswith(("/dev/null", "socket:", "anon_inode:[eventfd]")) for what in seen["descriptors"]), seen
    assert len(seen["descriptors"]) <= 6, seen
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


def listener_inode(port: int) -> str:
    """The kernel's number of the socket that listens."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[1].endswith(f":{port:04X}") and fields[3] == "0A":
            return fields[9]
    raise AssertionError(f"nobody listens on {port}")


def restart_under_load() -> None:
    """Only when it is asked for: `tools/systemd-test "under load"`. Clients that come back with backoff, while it restarts."""
    result = asyncio.run(load())
    print(f"# {json.dumps(result)}")
    assert result["refused"] == 0, result
    assert set(result["codes"]) <= {"1001", "1012"}, result
    assert result["back"] == CLIENTS, result


async def load() -> dict[str, Any]:
    """Open all lines, restart the service, and wait until everybody is back."""
    codes: Counter[str] = Counter()
    counts = Counter(refused=0, back=0)
    opened, everybody = asyncio.Semaphore(0), asyncio.Event()
    gate = asyncio.Semaphore(50)

    async def client() -> None:
        async with gate:
            line = await connect_asynchronously(f"ws://127.0.0.1:{PORT}/shared", open_timeout=PATIENCE, proxy=None)
        opened.release()
        await line.wait_closed()
        codes[str(line.close_code)] += 1
        delay = 0.1
        while True:
            await asyncio.sleep(delay * random.random())
            try:
                again = await connect_asynchronously(f"ws://127.0.0.1:{PORT}/shared", open_timeout=PATIENCE, proxy=None)
                break
            except ConnectionRefusedError:
                counts["refused"] += 1
            except (OSError, InvalidHandshake, TimeoutError):  # 503 while it drains
                counts["later"] += 1
            delay = min(2 * delay, 2.0)
        counts["back"] += 1
        if counts["back"] == CLIENTS:
            everybody.set()
        await everybody.wait()
        await again.close()

    async with asyncio.TaskGroup() as group:
        for _ in range(CLIENTS):
            group.create_task(client())
        for _ in range(CLIENTS):
            await opened.acquire()
        began = time.monotonic()
        restart = await asyncio.create_subprocess_exec("systemctl", "restart", UNIT)
        await restart.wait()
        restarted = time.monotonic() - began
        await asyncio.wait_for(everybody.wait(), 60)
        all_back = time.monotonic() - began
    return {
        "clients": CLIENTS, "codes": dict(codes), **counts,
        "restart_seconds": round(restarted, 2), "all_back_seconds": round(all_back, 2),
    }  # fmt: skip


@check
def stop_is_clean() -> None:
    with open_line() as line:
        run("systemctl", "stop", "wsrelay.socket", UNIT)
        assert close_code(line) == 1001
    assert show("Result") == "success"
    assert processes() == []


def main(words: list[str]) -> int:
    failed = 0
    load_too = [restart_under_load] if words and any(word in "restart under load" for word in words) else []
    for each in [*CHECKS[:-1], *load_too, CHECKS[-1]]:
        name = each.__name__.replace("_", " ")
        needed = each in CHECKS[:3]
        if words and not needed and not any(word in name for word in words):
            continue
        began = time.monotonic()
        try:
            each()
        except Exception:
            failed += 1
            print(f"FAILED  {name}\n{traceback.format_exc()}", flush=True)
            print(run("journalctl", "--no-pager", "--lines", "40"), flush=True)
        else:
            print(f"ok      {name} ({time.monotonic() - began:.1f} s)", flush=True)
    print(f"{failed} failed" if failed else "all checks passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
