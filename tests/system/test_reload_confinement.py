"""A reload of what confines workers: new ones get what is new, those that live keep what they have, and what the machine or the start does
not allow is refused and changes nothing. With real processes and the real kernel."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from support.limited import LIMITED, confined, entries
from support.puppet import PUPPET_SOURCES, Puppet
from support.runtime import Runtime, write_application
from support.waiting import wait_until
from wsrelay.kernel.core.enforcement import SANDBOX_ABI
from wsrelay.kernel.shell.machine import landlock_abi

ADMIN = {"name": "admin", "kind": "http.admin", "addr": "127.0.0.1:0"}
THREADS = "import threading\nfor _ in range(24): threading.Thread(target=threading.Event().wait, daemon=True).start()"


def reload(runtime: Runtime, host: Mapping[str, Any], *more: Mapping[str, Any]) -> None:
    """Have `app:limited` these fields, and wait until a reload has taken them over."""
    write_application(runtime.folder, [*entries(host), *more], PUPPET_SOURCES)
    done = runtime.log().count("reloaded in")
    os.kill(runtime.supervisor, signal.SIGHUP)
    wait_until(lambda: runtime.log().count("reloaded in") > done, message=runtime.log)


def refused(runtime: Runtime, host: Mapping[str, Any], *more: Mapping[str, Any]) -> str:
    """Have a reload with these fields refused. Returns why."""
    write_application(runtime.folder, [*entries(host), *more], PUPPET_SOURCES)
    before = len(runtime.log())
    os.kill(runtime.supervisor, signal.SIGHUP)
    wait_until(lambda: "the reload changes nothing: " in runtime.log()[before:], message=runtime.log)
    return runtime.log()[before:]


def test_a_limit_is_for_workers_that_start_after_it(tmp_path: Path) -> None:  # S18
    with confined(tmp_path) as runtime, Puppet(runtime, LIMITED) as old:
        reload(runtime, {"umask": "0027", "limits": {"processes": 12}})
        old.do(THREADS)
        with Puppet(runtime, LIMITED) as new:
            assert new.do("os.umask(0o027)") == 0o027
            new.order(THREADS)
            assert new.end() == (1011, "limit:processes")
        assert old.do("'fine'") == "fine"
        reload(runtime, {})
        with Puppet(runtime, LIMITED) as free:
            free.do(THREADS)
            assert free.do("'fine'") == "fine"


def test_code_that_is_upgraded_has_the_limits_of_now(tmp_path: Path) -> None:  # S18, S35
    upgrade = "process.upgrade('app:puppet', me)"
    with confined(tmp_path) as runtime, Puppet(runtime, LIMITED) as one, Puppet(runtime, LIMITED) as two:
        reload(runtime, {"limits": {"processes": 12}})
        for each in (one, two):
            each.order(upgrade, me=each.client_pid)
            assert each.do("'fine'") == "fine"
        one.order(THREADS)
        assert one.end() == (1011, "limit:processes")
        reload(runtime, {})
        two.order(upgrade, me=two.client_pid)
        two.do(THREADS)
        assert two.do("'fine'") == "fine"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"private_tmp": True}, "another private_tmp needs a restart"),
        ({"user": "nobody"}, "another user needs a restart"),
        ({"sandbox": {"read": ["/no/such/folder"]}}, "sandbox.read: "),
        ({"limits": {"cpus": 1}}, "limits.cpus: needs the cpu controller"),
    ],
)
def test_what_cannot_be_had_is_refused(tmp_path: Path, fields: Mapping[str, Any], words: str) -> None:
    with confined(tmp_path) as runtime, Puppet(runtime, LIMITED) as one:
        assert words in refused(runtime, fields)
        assert one.do("'fine'") == "fine"
        with Puppet(runtime, LIMITED) as two:
            assert two.do("'fine'") == "fine"


PRIVATE = {"name": "extra", "kind": "process.host", "private_tmp": True}


@pytest.mark.parametrize(
    ("extra", "why"),
    [(PRIVATE, "private_tmp: needs a restart"), (ADMIN, "an http.admin needs a restart")],
    ids=["a private folder", "an admin"],
)
def test_private_folders_and_admins_are_prepared_at_the_start(tmp_path: Path, extra: dict[str, Any], why: str) -> None:
    with confined(tmp_path) as runtime:
        assert why in refused(runtime, {}, extra)


@pytest.mark.skipif(landlock_abi() < SANDBOX_ABI, reason=f"needs Landlock with ABI {SANDBOX_ABI}")
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can change the user")
def test_a_fork_server_that_cannot_be_confined_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, *tmp_path.parents):
        if path != Path("/"):
            path.chmod(path.stat().st_mode | 0o055)
    hidden = tmp_path / "hidden" / "inside"
    hidden.mkdir(parents=True)
    hidden.parent.chmod(0o700)
    with confined(tmp_path, user="nobody") as runtime, Puppet(runtime, LIMITED) as one:
        told = refused(runtime, {"user": "nobody", "sandbox": {"read": [str(hidden)]}})
        assert f"{LIMITED}: its workers cannot be confined as asked" in told
        assert one.do("'fine'") == "fine"
        with Puppet(runtime, LIMITED) as two:
            assert two.do("'fine'") == "fine"


@pytest.mark.parametrize(
    ("limits", "deed", "kind"),
    [
        (
            {"memory": "96MiB"},
            "hoard = [b'x' * (1 << 20) for _ in range(160)]\nwhile True: signal.pause()",
            "limit:oom",
        ),
        ({"cpu": "1s"}, "while True: pass", "limit:cpu"),
        (
            {"disk": "4MiB"},
            "import tempfile\nopen(tempfile.gettempdir() + '/much', 'wb').write(bytes(8 << 20))\nwhile True: signal.pause()",
            "limit:disk",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) and value.startswith("limit:") else "",
)
def test_a_limit_that_a_reload_brings_is_kept(
    tmp_path: Path, limits: dict[str, str], deed: str, kind: str
) -> None:  # S18
    with confined(tmp_path, private_tmp=True) as runtime:
        reload(runtime, {"private_tmp": True, "limits": limits})
        with Puppet(runtime, LIMITED) as new:
            new.order(deed)
            assert new.end() == (1011, kind)
