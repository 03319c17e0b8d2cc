"""A reload of a real runtime with another configuration: routes, limits, services, servers and hosts (S39, S49, S58)."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import ssl
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.clients import close_of
from support.reloading import ACTORS, BASE, COMMAND, ROUTES, ask, changes, get, reload, said, service, source
from support.runtime import GATEWAY, PROCESSES, ROUTER, Runtime, actor, endpoint, running_runtime, write_application
from support.waiting import wait_until
from websockets.sync.client import connect


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[Runtime]:
    with running_runtime(tmp_path, [*BASE, service()], source("one")) as running:
        yield running


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


def test_a_new_service_that_does_not_stay_ends_the_reload(runtime: Runtime) -> None:  # S37
    failing = {**service("failing", "wrong"), "args": ["what the function does not take"]}
    changes(runtime, *BASE, {**actor("other"), "name": "wrong"}, service(), failing, version="two")
    refused = ask(runtime, "reload")
    assert refused.returncode == 1
    assert re.search("app:failing.service: does not stay: (backing off|failed)", refused.stderr), refused.stderr
    assert "the services after it in the order of their start are not restarted" in refused.stderr


def test_what_is_not_the_name_of_a_host_changes_nothing(runtime: Runtime) -> None:
    changes(runtime, *BASE, service(), {"name": "extra", "kind": "http.service", "addr": "no..host:80"})
    refused = ask(runtime, "reload")
    assert (refused.returncode, "addr: cannot listen on no..host:80: " in refused.stderr) == (1, True), refused.stderr
    assert get(runtime, "/version") == (200, "one")


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("unshare"), reason="needs root and unshare")
def test_a_name_server_that_does_not_answer_holds_nobody_up(tmp_path: Path) -> None:
    folder, log, names = tmp_path / "application", tmp_path / "log", tmp_path / "resolv.conf"
    address = f"127.{os.getpid() // 250 % 250}.{os.getpid() % 250}.53"
    names.write_text(f"nameserver {address}\n")
    write_application(folder, [*BASE, service()], source("one"))
    directory = ["--run-directory", str(tmp_path / "run")]
    command = ["unshare", "--mount", "sh", "-c", 'mount --bind "$0" /etc/resolv.conf && exec "$@"', str(names)]
    with socket.socket(type=socket.SOCK_DGRAM) as silent, log.open("wb") as output:
        silent.bind((address, 53))
        silent.settimeout(30)
        running = subprocess.Popen([*command, COMMAND, "run", *directory, folder], stderr=output)
        try:
            wait_until(lambda: "serving" in log.read_text() or running.poll() is not None, 30, log.read_text)
            if running.poll() is not None and "mount" in log.read_text():
                pytest.skip(log.read_text())
            extra = {"name": "extra", "kind": "http.service", "addr": "nowhere.example:80"}
            write_application(folder, [*BASE, service(), extra], {})
            reload = subprocess.Popen([COMMAND, "reload", *directory], stderr=subprocess.PIPE, text=True)
            silent.recv(1000)
            status = subprocess.run([COMMAND, "status", *directory], capture_output=True, text=True, check=False)
            assert (status.returncode, "the gateway: ready" in status.stdout) == (0, True), status.stderr
            running.terminate()
            assert reload.communicate(timeout=30)[1] == "the runtime stops: it does not finish this\n"
            assert running.wait(30) == 0
        finally:
            running.kill()
            running.wait()


def test_a_socket_file_of_somebody_who_accepts_nobody_is_refused_at_once(runtime: Runtime, tmp_path: Path) -> None:
    path = str(tmp_path / "busy.socket")
    with contextlib.ExitStack() as lines:
        busy = lines.enter_context(socket.socket(socket.AF_UNIX))
        busy.bind(path)
        busy.listen(0)
        with contextlib.suppress(BlockingIOError):
            while True:
                waiting = lines.enter_context(socket.socket(socket.AF_UNIX))
                waiting.setblocking(False)
                waiting.connect(path)
        changes(runtime, *BASE, service(), {"name": "extra", "kind": "http.service", "addr": f"unix:{path}"})
        refused = ask(runtime, "reload")
    assert (refused.returncode, "somebody does already" in refused.stderr) == (1, True), refused.stderr
    assert Path(path).is_socket()


@pytest.mark.parametrize("refused", ["another address", "a user"])
def test_a_refused_reload_leaves_no_socket_file(runtime: Runtime, refused: str) -> None:
    path = runtime.temporary / "extra.socket"
    extra = {"name": "extra", "kind": "http.service", "addr": f"unix:{path}"}
    hosted = [{**entry, "host": "processes"} if entry["kind"] == "function.python" else entry for entry in BASE]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        more = {
            "another address": {"kind": "http.service", "addr": f"127.0.0.1:{taken.getsockname()[1]}"},
            "a user": {"kind": "process.host", "user": "nobody-of-this-name"},
        }[refused]
        changes(runtime, *hosted, service(), extra, {"name": "more", **more})
        assert ask(runtime, "reload").returncode == 1
    assert not path.exists()
    changes(runtime, *BASE, service(), extra)
    assert "servers added: app:extra" in reload(runtime)
    assert path.is_socket()


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
