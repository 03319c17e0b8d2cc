"""The units: their text, and what `wsrelay install-unit` says."""

from __future__ import annotations

import dataclasses
import importlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.runtime import GATEWAY, actor, application, endpoint, write_application
from wsrelay.kernel.shell.systemd import unit
from wsrelay.kernel.shell.systemd.install import find_version

WSRELAY = Path(sys.executable).with_name("wsrelay")
SOURCES = {"app.py": "def connect(): ...\ndef act(): ..."}
ROOT = Path(__file__).parents[4]


def install(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [WSRELAY, "install-unit", folder, *arguments], capture_output=True, text=True, check=False, timeout=60
    )


@pytest.mark.parametrize(
    ("word", "quoted"),
    [
        ("/opt/wsrelay/bin/wsrelay", "/opt/wsrelay/bin/wsrelay"),
        ("/srv/my app", '"/srv/my app"'),
        ("/srv/100%", "/srv/100%%"),
        ("/srv/$HOME", "/srv/$$HOME"),
        ('/srv/"a"', '"/srv/\\"a\\""'),
    ],
)
def test_words_are_quoted_for_systemd(word: str, quoted: str) -> None:
    assert unit.quote(word) == quoted


def test_a_service_without_sockets_keeps_them_in_the_store() -> None:
    text = unit.render_service(unit.Service("relay", ("/bin/wsrelay", "run", "/srv"), 10.0))
    assert "FileDescriptorStoreMax=16" in text
    assert "Requires=" not in text
    text = unit.render_service(unit.Service("relay", ("/bin/wsrelay", "run", "/srv"), 10.0, sockets=("relay",)))
    assert "FileDescriptorStoreMax" not in text
    assert "Requires=relay.socket" in text


@pytest.mark.parametrize(
    ("streams", "setting"),
    [
        (("8080",), "both"),
        (("[::]:8080",), "ipv6-only"),
        (("127.0.0.1:1", "[::1]:1"), "ipv6-only"),
        (("127.0.0.1:1",), ""),
    ],
)
def test_a_socket_takes_the_versions_of_ip_that_its_address_says(streams: tuple[str, ...], setting: str) -> None:
    text = unit.render_socket(unit.Socket("relay", "relay", "gateway", streams))
    assert re.findall(r"^BindIPv6Only=(.*)$", text, re.MULTILINE) == ([setting] if setting else [])


def test_a_host_with_a_user_needs_three_capabilities_and_not_root() -> None:
    text = unit.render_service(unit.Service("relay", ("/bin/wsrelay",), 10.0, changes_user=True))
    for name in ("CapabilityBoundingSet", "AmbientCapabilities"):
        assert f"\n{name}=CAP_SETUID CAP_SETGID CAP_KILL\n" in text
    assert "\nDynamicUser=yes\n" in text
    assert "\nPrivateUsers=" not in text
    filters = re.findall(r"^SystemCallFilter=(.*)$", text, re.MULTILINE)
    assert filters.index("setgroups setresgid setresuid setfsuid capset") > filters.index("~@privileged")
    text = unit.render_service(unit.Service("relay", ("/bin/wsrelay",), 10.0, changes_user=True, user="relay"))
    assert "\nUser=relay\n" in text
    assert "DynamicUser" not in text


def test_a_systemd_that_knows_notify_reload_is_told_of_reloads() -> None:  # systemd.service(5), 253
    service = unit.Service("relay", ("/bin/wsrelay", "run", "/srv"), 10.0)
    old = unit.render_service(service)
    assert "\nType=notify\n" in old
    assert "ReloadSignal" not in old
    new = unit.render_service(dataclasses.replace(service, notifies_reload=True))
    assert "\nType=notify-reload\nReloadSignal=SIGCONT\n" in new
    assert "\nType=notify\n" not in new
    for text in (old, new):
        assert "\nExecReload=/bin/wsrelay reload /srv\n" in text
    drop_in = [line for line in unit.render_drop_in().splitlines() if line and not line.startswith("#")]
    assert drop_in == ["[Service]", "Type=notify-reload", "ReloadSignal=SIGCONT"]


@pytest.mark.parametrize(
    ("says", "version"),
    [
        ("systemd 252 (252.38-1~deb12u1)\n+PAM", 252),
        ("systemd 257 (257.13-1~deb13u1)\n", 257),
        ("something else\n", 0),
        (None, 0),
    ],
)
def test_which_systemd_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: str | None, version: int
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    if says is not None:
        (tmp_path / "systemctl").write_text(
            f"#!/bin/sh\nwhile read line; do echo \"$line\"; done <<'END'\n{says}\nEND\n"
        )
        (tmp_path / "systemctl").chmod(0o755)
    assert find_version() == version


def test_the_shipped_units_are_those_of_the_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "tools")
    for name, text in importlib.import_module("systemd_units").render().items():
        assert (ROOT / "deploy" / "systemd" / name).read_text() == text, "run tools/render-units"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze")
def test_systemd_understands_the_shipped_units(tmp_path: Path) -> None:
    for file in (ROOT / "deploy" / "systemd").iterdir():
        text = file.read_text().replace("/opt/wsrelay/bin/wsrelay", "/bin/true")
        (tmp_path / file.name).write_text(text)
    names = [name.replace("@", "@one") for name in map(str, tmp_path.iterdir()) if not name.endswith(".conf")]
    shutil.copy(tmp_path / "wsrelay@.service", tmp_path / "wsrelay@one.service")
    done = subprocess.run(
        ["systemd-analyze", "verify", *names], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.stdout + done.stderr == ""


def test_what_cannot_be_served_from_there_is_said_and_nothing_is_written(tmp_path: Path) -> None:
    folder = tmp_path / "application"
    write_application(folder, application(endpoint("/", "connect"), actor("act")), SOURCES)
    done = install(folder, "--directory", str(tmp_path))
    if not str(tmp_path).startswith(("/tmp/", "/var/tmp/")):
        pytest.skip("temporary files are not in /tmp here")
    assert done.returncode == 1
    assert "PrivateTmp=" in done.stderr
    assert str(folder) in done.stderr
    assert list(tmp_path.iterdir()) == [folder]


def test_a_configuration_with_mistakes_gets_no_unit(tmp_path: Path) -> None:
    write_application(tmp_path, [{"name": "gateway", "kind": "http.service"}], {})
    done = install(tmp_path, "--print")
    assert done.returncode == 1
    assert "missing field addr" in done.stderr


def test_the_names_of_units_and_sockets(tmp_path: Path) -> None:
    from wsrelay.kernel.shell.configuration_files import load

    second = {**GATEWAY, "name": "admin", "addr": "[::1]:8081"}
    local = {**GATEWAY, "name": "local", "addr": "unix:/run/relay/local"}
    watched = {
        "name": "watched",
        "kind": "http.admin",
        "addr": "127.0.0.1:9464",
    }  # a scrape must not start what was stopped
    write_application(tmp_path, [{**GATEWAY, "addr": ":8080"}, second, local, watched], {})
    made = load([str(tmp_path)])
    servers = unit.tcp_servers(made)
    assert unit.socket_names("relay", servers) == ["relay", "relay-app-admin"]
    assert [unit.descriptor_name(each, made.gateway.servers) for each in servers] == ["gateway", "admin"]


def test_another_file_is_not_replaced(tmp_path: Path) -> None:
    from wsrelay.kernel.shell.errors import StartError
    from wsrelay.kernel.shell.systemd import install as installing

    (tmp_path / "relay.socket").write_text("[Socket]\n")
    with pytest.raises(StartError, match=r"relay\.socket is not from wsrelay install-unit"):
        installing.write({"relay.service": unit.MARK, "relay.socket": unit.MARK}, str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["relay.socket"]
    (tmp_path / "relay.socket").write_text(unit.MARK)
    written = installing.write({"relay.service": unit.MARK, "relay.socket": unit.MARK + "\nnew"}, str(tmp_path))
    assert [Path(path).name for path in written] == ["relay.service", "relay.socket"]
    assert (tmp_path / "relay.socket").read_text().endswith("new")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("my relay", "expected letters"),
        (".", "expected letters"),
        ("..", "expected letters"),
        (".hidden", "expected letters"),
        ("-option", "expected letters"),
        ("", "expected letters"),
        ("a@b", "expected letters"),
        ("a/b", "expected letters"),
        ("relay.", "no dot at the end"),
        ("relay\n", "expected letters"),
        ("relay.service", "without .service, 'relay' say"),
        ("relay.socket", "without .socket, 'relay' say"),
        ("r" * 248, "at most 247 characters"),
        ("r" * 247, "expected a shorter one: r"),
    ],
)
def test_a_bad_name_is_refused(tmp_path: Path, name: str, told: str) -> None:
    servers = [{**GATEWAY, "addr": ":8080"}, {**GATEWAY, "name": "other", "addr": ":8081"}]
    write_application(tmp_path / "application", servers, {})
    (tmp_path / "units").mkdir()
    done = install(tmp_path / "application", f"--name={name}", "--directory", str(tmp_path / "units"), "--user", "root")
    assert done.returncode == 1
    assert "error: --name: " in done.stderr
    assert told in done.stderr
    assert list((tmp_path / "units").iterdir()) == []


@pytest.mark.parametrize("name", ["r", "service", "_relay-2.blue", "1", "r" * 247])
def test_a_name_that_systemd_takes(name: str) -> None:
    unit.check_name(name)


def test_a_service_whose_hosts_have_limits_and_a_sandbox() -> None:
    text = unit.render_service(
        unit.Service("relay", ("/bin/wsrelay",), 10.0, divides_cgroup=True, writable=("/srv/data", "/srv/my data"))
    )
    assert "\nDelegate=memory pids cpu\n" in text
    assert "\nProtectControlGroups=no\n" in text
    assert '\nReadWritePaths=/srv/data\nReadWritePaths="/srv/my data"\n' in text
