"""A reload of a real runtime: what changes, what stays, and what nobody notices (S37, S39, S41, S49, S56)."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from support.clients import close_of
from support.runtime import GATEWAY, PROCESSES, ROUTER, Runtime, actor, endpoint, running_runtime, write_application
from support.waiting import wait_until
from websockets.sync.client import connect
from wsrelay.kernel.shell.control import SILENCE
from wsrelay.kernel.shell.control import connect as connect_to

COMMAND = Path(sys.executable).with_name("wsrelay")
SOURCE = """
    import os
    from wsrelay.workers import http, process

    VERSION = "VERSION_OF_CODE"

    def version():
        http.response().write(VERSION)

    def open_echo():
        http.response().relay_to(process.spawn("app:echo", "app:processes"))

    def open_named():
        http.response().relay_to("served")

    def open_held():
        http.response().relay_to("served", on_exit="hold")

    def echo():
        told = ""
        while True:
            match process.receive():
                case process.Cancel():
                    return
                case process.Message("@reload"):
                    told = " told"
                case process.Message("ws.message", payload, sender):
                    process.send(sender, "ws.send", {"data": f"{VERSION} {os.getpid()} {payload['data']}{told}"})

    def other():
        process.events().receive()

    def open_upgrading():
        http.response().relay_to("upgrading")

    def upgrading():
        while True:
            match process.receive():
                case process.Cancel():
                    return
                case process.Message("@reload"):
                    process.upgrade()
                case process.Message("ws.message", payload, sender):
                    process.send(sender, "ws.send", {"data": f"{VERSION} {process.pid()} {payload['data']}"})

    def deaf():
        for _ in process.inbox():
            pass
"""


def source(version: str) -> dict[str, str]:
    return {"app.py": SOURCE.replace("VERSION_OF_CODE", version)}


ACTORS = [actor("echo"), actor("other"), actor("deaf"), actor("upgrading")]
ROUTES = [*endpoint("/version", "version"), *endpoint("/echo", "open_echo"), *endpoint("/named", "open_named"),
          *endpoint("/held", "open_held")]  # fmt: skip
BASE = [GATEWAY, PROCESSES, ROUTER, *ACTORS, *ROUTES]


def service(name: str = "served", process: str = "echo", **lifecycle: Any) -> dict[str, Any]:
    return {
        "name": f"{name}.service",
        "kind": "process.service",
        "process": process,
        "host": "processes",
        "register": name,
        "lifecycle": {"stop_timeout": "5s", "restart": {"initial_delay": "10ms"}, **lifecycle},
    }


def ask(runtime: Runtime, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command for this runtime."""
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(runtime.temporary)}
    environment.pop("RUNTIME_DIRECTORY", None)
    return subprocess.run(
        [COMMAND, *arguments], env=environment, capture_output=True, text=True, check=False, timeout=120
    )


def reload(runtime: Runtime, *arguments: str) -> str:
    """Reload, and expect that it is done. Returns what was said."""
    done = ask(runtime, "reload", str(runtime.folder), *arguments)
    assert done.returncode == 0, done.stderr + runtime.log()
    return done.stdout


def get(runtime: Runtime, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(runtime.url(path), timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, ""


def said(client: Any, text: str) -> list[str]:
    """Ask an echo: version, os_pid, text."""
    client.send(text)
    return str(client.recv(timeout=60)).split()


def changes(runtime: Runtime, *entries: Mapping[str, Any], version: str | None = None) -> None:
    """Write another configuration."""
    write_application(runtime.folder, list(entries), source(version) if version else {})


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
        assert "the reload changes nothing" in runtime.log()
        (runtime.folder / "_index.yaml").write_text("entries: [")
        runtime.process.send_signal(signal.SIGHUP)
        wait_until(lambda: runtime.log().count("the reload changes nothing") >= 2, message=runtime.log)
        assert said(client, "a") == before
        assert set(runtime.processes()) == processes
        assert get(runtime, "/version") == (200, "one")


def test_routes_and_origins_change(runtime: Runtime) -> None:
    origins = {**ROUTER, "post_options": {"wsrelay.allowed.origins": "https://app.example.com"}}
    with connect(runtime.ws_url("/echo")) as client:
        assert get(runtime, "/late")[0] == 404
        moved = [{**entry, "path": "/late"} if entry.get("path") == "/version" else entry for entry in ROUTES]
        changes(runtime, GATEWAY, PROCESSES, origins, *ACTORS, *moved, service())
        told = reload(runtime)
        assert "servers changed: app:gateway" in told
        assert get(runtime, "/late") == (200, "one")
        assert get(runtime, "/version")[0] == 404
        assert said(client, "a")[0] == "one"
        with connect(runtime.ws_url("/echo"), origin="https://app.example.com") as other:  # type: ignore[arg-type]
            assert said(other, "a")[0] == "one"


def test_limits_change_for_open_connections_too(runtime: Runtime) -> None:
    with connect(runtime.ws_url("/echo")) as client:
        said(client, "a")
        limited = {**GATEWAY, "limits": {"connections": 1}, "ping": {"interval": "0s"}}
        changes(runtime, limited, *BASE[1:], service())
        reload(runtime)
        assert get(runtime, "/version")[0] == 503, "the one is taken"
        assert said(client, "a")[2] == "a"
    wait_until(lambda: get(runtime, "/version")[0] == 200)


def test_services_come_and_go(runtime: Runtime) -> None:  # S39
    first = service("first", "other")
    changes(runtime, *BASE, service(), first, service("second", "other", requires=["first.service"]))
    told = reload(runtime)
    assert "services added: app:first.service, app:second.service" in told
    assert "app:second.service: running" in told
    with connect(runtime.ws_url("/named")) as client:
        said(client, "a")
        changes(runtime, *BASE, first)
        assert "services removed: app:second.service, app:served.service" in reload(runtime)
        assert close_of(client)[0] == 1000
    assert "service app:first.service: running" in ask(runtime, "status").stdout
    assert "served" not in ask(runtime, "status").stdout


def test_starting_and_stopping_a_service(runtime: Runtime) -> None:  # S37, S39
    assert ask(runtime, "stop", "app:served.service", str(runtime.folder)).returncode == 0
    wait_until(lambda: "service app:served.service: stopped" in ask(runtime, "status").stdout)
    refused = ask(runtime, "restart", "app:served.service")
    assert (refused.returncode, "is stopped" in refused.stderr) == (1, True)
    assert ask(runtime, "start", "app:served.service").returncode == 0
    wait_until(lambda: "service app:served.service: running" in ask(runtime, "status").stdout)
    assert "restarted, running" in ask(runtime, "restart", "app:served.service").stdout
    unknown = ask(runtime, "start", "app:nothing")
    assert (unknown.returncode, "app:nothing" in unknown.stderr) == (1, True)


def test_nobody_to_ask(tmp_path: Path) -> None:
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)}
    asked = subprocess.run([COMMAND, "status"], env=environment, capture_output=True, text=True, check=False)
    assert asked.returncode == 1
    assert "no runtime" in asked.stderr


def test_several_runtimes_to_ask(runtime: Runtime, tmp_path: Path) -> None:
    with contextlib.ExitStack() as others:
        write_application(tmp_path / "second", [PROCESSES], {})
        second = Runtime(tmp_path / "second", {"XDG_RUNTIME_DIR": str(runtime.temporary)})
        others.callback(second.kill)
        others.callback(second.process.wait, 60)
        others.callback(second.process.terminate)
        wait_until(lambda: "ready: no http.service" in second.log(), message=second.log)
        asked = ask(runtime, "status")
        assert asked.returncode == 1
        assert "say which configuration" in asked.stderr
        for served in (runtime.folder, tmp_path / "second"):
            assert f"\n  {served} (os process " in asked.stderr
        assert "1 processes" in ask(runtime, "status", str(runtime.folder)).stdout


AS_NOBODY = """
import os, pathlib, pwd, sys
from wsrelay.kernel.shell import operator
os.setgroups([])
os.setuid(pwd.getpwnam("nobody").pw_uid)
sys.exit(operator.ask(pathlib.Path(sys.argv[1]), [], {"command": "status"}))
"""
"""The Python may be where only its owner can read it: so this becomes nobody when it has imported everything."""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("closed", ["the folder", "what the folder is in", "the socket", "nothing"])
def test_who_may_not_ask_is_told_who_may(runtime: Runtime, closed: str) -> None:
    directory = runtime.temporary / "wsrelay"
    [path] = directory.iterdir()
    open_to_all = [*directory.parents, *([] if closed == "the folder" else [directory])]
    for folder in open_to_all:
        if folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o055)
    if closed == "what the folder is in":
        directory.parent.chmod(0o700)
    path.chmod(0o777 if closed == "nothing" else 0o700)
    command = [sys.executable, "-c", AS_NOBODY, directory]
    asked = subprocess.run(command, capture_output=True, text=True, check=False)
    told = {
        "the folder": f"permission denied: {directory} is of the user root: ask as that user or as root",
        "what the folder is in": f"permission denied: {directory} is in a folder that this user may not enter",
        "the socket": f"permission denied: {path} is of the user root: ask as that user or as root",
        "nothing": "permission denied: the runtime is of the user root, and answers only that user and root",
    }
    assert (asked.returncode, told[closed] in asked.stderr) == (1, True), asked.stderr


def test_a_runtime_that_does_not_answer(runtime: Runtime) -> None:
    os.kill(runtime.supervisor, signal.SIGSTOP)
    try:
        asked = ask(runtime, "status")
    finally:
        os.kill(runtime.supervisor, signal.SIGCONT)
    assert asked.returncode == 3
    assert f"the runtime (os process {runtime.supervisor}) has not answered for 5 s" in asked.stderr
    assert ask(runtime, "status").returncode == 0


def test_an_answer_may_take_longer_than_a_silence(tmp_path: Path) -> None:
    with running_runtime(tmp_path, [*BASE, service("deaf", "deaf", stop_timeout="6s")], source("one")) as runtime:
        assert SILENCE < 6
        restarted = ask(runtime, "restart", "app:deaf.service")
        assert (restarted.returncode, "restarted, running" in restarted.stdout) == (0, True), restarted.stderr


def test_the_control_socket_is_for_its_user_alone(runtime: Runtime) -> None:
    [path] = (runtime.temporary / "wsrelay").iterdir()
    assert path.parent.stat().st_mode & 0o777 == 0o700
    for sent in (b"\n", b"[]\n", b'{"command": "dance"}\n', b"x" * 70_000, b"["[:1] * 60_000 + b"\n", b""):
        with socket.socket(socket.AF_UNIX) as line:
            connect_to(line, path)
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                line.sendall(sent)
                line.shutdown(socket.SHUT_WR)
                line.recv(4096)
    assert ask(runtime, "status").returncode == 0
    if os.geteuid() == 0:
        path.parent.chmod(0o777)
        path.chmod(0o777)
        stranger = os.fork()
        if stranger == 0:
            answered = 0
            with contextlib.suppress(BaseException):
                os.chdir(path.parent)
                os.setuid(65534)
                line = socket.socket(socket.AF_UNIX)
                line.connect(path.name)
                line.sendall(b'{"command": "status"}\n')
                answered = len(line.recv(9))
            os._exit(answered)
        assert os.waitstatus_to_exitcode(os.waitpid(stranger, 0)[1]) == 0
        wait_until(lambda: "the user 65534" in runtime.log())


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
        thread = threading.Thread(target=ask, args=(runtime, "reload"))
        thread.start()
        wait_until(lambda: "reloading" in runtime.log())
        runtime.process.send_signal(signal.SIGTERM)
        wait_until(lambda: "stopping" in runtime.log())
        runtime.process.send_signal(signal.SIGHUP)
        thread.join()
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


# --- where it listens ---------------------------------------------------------------------------------------------------


def test_servers_come_move_and_go(runtime: Runtime) -> None:
    extra = {"name": "extra", "kind": "http.service", "addr": "127.0.0.1:0"}
    routes = [{**ROUTER, "name": "extra_router", "meta": {"server": "extra"}},
              {**ROUTES[1], "name": "extra.endpoint", "meta": {"router": "extra_router"}}, *endpoint("/x", "open_named")[:0],
              {"name": "extra.ws", "kind": "http.endpoint", "meta": {"router": "extra_router"}, "method": "GET",
               "path": "/echo", "func": "open_echo"}]  # fmt: skip
    changes(runtime, *BASE, service(), extra, *routes)
    assert "servers added: app:extra" in reload(runtime)
    wait_until(lambda: "app:extra" in runtime.addresses())
    first = runtime.addresses()["app:extra"]
    with connect(runtime.ws_url("/echo", "app:extra")) as client:
        said(client, "a")
        changes(runtime, *BASE, service(), {**extra, "addr": "localhost:0"}, *routes)
        assert "servers moved: app:extra" in reload(runtime)
        wait_until(lambda: runtime.addresses()["app:extra"] != first)
        said(client, "a")
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", int(first.rpartition(":")[2]))).close()
        with connect(runtime.ws_url("/echo", "app:extra")) as other:
            said(other, "a")
        changes(runtime, *BASE, service())
        assert "servers removed: app:extra" in reload(runtime)
        assert close_of(client)[0] == 1001
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", runtime.port("app:extra"))).close()


def test_an_address_that_cannot_be_had_changes_nothing(runtime: Runtime) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        extra = {"name": "extra", "kind": "http.service", "addr": f"127.0.0.1:{taken.getsockname()[1]}"}
        changes(runtime, *BASE, service(), extra, version="two")
        refused = ask(runtime, "reload")
    assert refused.returncode == 1
    assert re.search(r"_index\.yaml:\d+:\d+: addr: cannot listen on .* \(app:extra\)", refused.stderr)
    assert get(runtime, "/version") == (200, "one")
    assert "reloaded in" not in runtime.log()


def certificate(folder: Path, name: str) -> None:
    """Make `cert.pem` and `key.pem` for that name, where the openssl command is there."""
    subject = ["-subj", f"/CN={name}", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-keyout", folder / "key.pem", "-out", folder / "cert.pem", *subject],
        check=True, capture_output=True,
    )  # fmt: skip


def served_certificate(runtime: Runtime) -> str:
    address = ("127.0.0.1", runtime.port())
    return ssl.get_server_certificate(address, timeout=30)


@pytest.mark.skipif(
    shutil.which("openssl") is None, reason="the command openssl is not there to make a certificate with"
)
def test_certificates_change_for_new_handshakes(tmp_path: Path) -> None:
    certificate(tmp_path, "one")
    tls = {**GATEWAY, "tls": {"certificate": str(tmp_path / "cert.pem"), "key": str(tmp_path / "key.pem")}}
    with running_runtime(tmp_path, [tls, *BASE[1:], service()], source("one")) as runtime:
        first = (tmp_path / "cert.pem").read_text()
        context = ssl.create_default_context(cafile=str(tmp_path / "cert.pem"))
        with connect(runtime.ws_url("/echo"), ssl=context) as client:
            said(client, "a")
            assert served_certificate(runtime) == first
            certificate(tmp_path, "two")
            second = (tmp_path / "cert.pem").read_text()
            reload(runtime)
            assert served_certificate(runtime) == second != first
            said(client, "a")
            (tmp_path / "key.pem").write_text("no key")
            refused = ask(runtime, "reload")
            assert refused.returncode == 1
            assert re.search(r"_index\.yaml:\d+:\d+: tls\.key: .* cannot be used", refused.stderr)
            assert served_certificate(runtime) == second
            changes(runtime, *BASE, service())
            assert "servers moved: app:gateway" in reload(runtime), "without TLS, on the same socket"
            said(client, "a")
            with urllib.request.urlopen(f"http://127.0.0.1:{runtime.port()}/version", timeout=60) as answer:
                assert answer.read() == b"one"


# --- hosts --------------------------------------------------------------------------------------------------------------


def test_hosts_come_change_and_go(runtime: Runtime) -> None:
    other = {"name": "other_host", "kind": "process.host", "functions": 1}
    moved = [{**entry, "host": "other_host"} if entry["kind"] == "function.python" else entry for entry in ROUTES]
    with connect(runtime.ws_url("/echo")) as client:
        before = said(client, "a")
        changes(runtime, GATEWAY, PROCESSES, other, ROUTER, *ACTORS, *moved, service())
        assert "hosts added: app:other_host" in reload(runtime)
        assert get(runtime, "/version") == (200, "one")
        limited = {**PROCESSES, "limits": {"open_files": 64}, "functions": 1}
        changes(runtime, limited, GATEWAY, ROUTER, *ACTORS, *ROUTES, service())
        assert "hosts removed: app:other_host" in reload(runtime)
        assert get(runtime, "/version") == (200, "one")
        assert said(client, "a") == before

    def functions() -> int:
        return sum(view.kind == "worker" and not view.pid for view in runtime.ps())

    wait_until(lambda: functions() == 1)
