"""The supervisor of a real runtime has no descriptor to spare: what needs one fails, and nobody who is there notices (S10)."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
from collections.abc import Iterator
from pathlib import Path

from support.reloading import BASE, ask, changes, reload, said, service, source
from support.runtime import Runtime, running_runtime
from support.waiting import wait_until
from websockets.sync.client import connect

SERVERS = [{"name": f"extra{number}", "kind": "http.service", "addr": "127.0.0.1:0"} for number in range(40)]
"""More listening sockets than what a reload and a gateway's start need besides to be begun."""
ENOUGH = 20
"""Descriptors for that."""


@contextlib.contextmanager
def spare_descriptors(runtime: Runtime, number: int) -> Iterator[None]:
    """So many more may the supervisor open meanwhile."""
    soft, hard = resource.prlimit(runtime.supervisor, resource.RLIMIT_NOFILE)
    allowed = len(os.listdir(f"/proc/{runtime.supervisor}/fd")) + number
    resource.prlimit(runtime.supervisor, resource.RLIMIT_NOFILE, (allowed, hard))
    try:
        yield
    finally:
        resource.prlimit(runtime.supervisor, resource.RLIMIT_NOFILE, (soft, hard))


def test_a_reload_whose_sockets_cannot_be_passed_is_refused(tmp_path: Path) -> None:
    with (
        running_runtime(tmp_path, [*BASE, service()], source("one")) as runtime,
        connect(runtime.ws_url("/echo")) as client,
    ):
        before = said(client, "a")
        changes(runtime, *BASE, service(), *SERVERS)
        with spare_descriptors(runtime, len(SERVERS) + ENOUGH):
            refused = ask(runtime, "reload")
        assert refused.returncode == 1
        assert "a listening socket cannot be passed to the gateway: [Errno 24]" in refused.stderr, runtime.log()
        assert said(client, "a") == before
        changes(runtime, *BASE, service(), SERVERS[0])
        assert "servers added: app:extra0" in reload(runtime)
        assert said(client, "a") == before


def test_a_gateway_that_cannot_have_its_sockets_is_started_again(tmp_path: Path) -> None:  # S41
    with running_runtime(tmp_path, [*BASE, service(), *SERVERS], source("one")) as runtime:
        with spare_descriptors(runtime, ENOUGH):
            os.kill(runtime.gateway, signal.SIGKILL)
            wait_until(lambda: "the gateway cannot be started: [Errno 24]" in runtime.log())
        wait_until(lambda: "the gateway serves again" in runtime.log())
        with connect(runtime.ws_url("/echo")) as client:
            assert said(client, "a")[0] == "one"
