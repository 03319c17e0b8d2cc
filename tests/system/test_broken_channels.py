"""When a channel of a worker breaks, or its host dies (S41a, S43)."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator

import pytest
from support.fork_server import host_of
from support.puppet import PUPPET_ENTRIES, PUPPET_SOURCES, Puppet
from support.runtime import Runtime, running_runtime
from support.waiting import wait_until
from websockets.exceptions import ConnectionClosed


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    with running_runtime(tmp_path_factory.mktemp("channels"), PUPPET_ENTRIES, PUPPET_SOURCES) as running:
        yield running


@pytest.mark.parametrize("how", ["SHUT_RDWR", "SHUT_RD", "SHUT_WR"])
@pytest.mark.parametrize("channel", ["control", "data"])
def test_a_worker_whose_channel_breaks_is_fenced(runtime: Runtime, channel: str, how: str) -> None:
    # S13, S43: it lives, and would never hear of what was dropped
    index = 0 if channel == "control" else -1
    with Puppet(runtime) as watcher, Puppet(runtime) as culprit:
        watcher.do("process.monitor(other)", other=culprit.pid)
        culprit.do("import signal, socket")
        log = runtime.log_size()
        culprit.order(
            f"end = socket.socket(fileno=os.dup(channels()[{index}]))\nend.shutdown(socket.{how})\n"
            "os.write(2, b'is shut now\\n')\nwhile True: signal.pause()"
        )
        wait_until(lambda: "is shut now" in runtime.log_since(log))
        # What cannot be written is noticed when it is written.
        with contextlib.suppress(ConnectionClosed):
            culprit.connection.send("{}")
        watcher.do("process.send(other, 'news', 1)")
        event = watcher.event()
        assert event["kind"] == "noconnection"
        assert culprit.end() == (1011, "noconnection")
        assert watcher.do("'fine'") == "fine"


def test_a_worker_that_floods_its_data_channel_with_garbage_dies_alone(runtime: Runtime) -> None:
    # S11, S43: the gateway closes the channel and says so; the worker is killed before it can take that for the gateway's end
    with Puppet(runtime) as watcher, Puppet(runtime) as culprit:
        watcher.do("process.monitor(other)", other=culprit.pid)
        culprit.order("os.write(channels()[-1], b'\\xc1')\nwhile True: process.receive()")
        assert watcher.event()["kind"] == "protocol"
        assert culprit.end() == (1011, "protocol")


def test_workers_survive_their_host(runtime: Runtime) -> None:
    # S41a: no worker dies, no status is lost, spawns go on
    with Puppet(runtime) as one, Puppet(runtime) as two:
        host = host_of(runtime)
        one.do("process.monitor(two)", two=two.pid)
        os.kill(host, signal.SIGKILL)
        wait_until(lambda: "its fork server ended" in runtime.log())
        assert one.do("'fine'") == "fine"
        two.order("os._exit(4)")
        assert one.event()["kind"] == "exit:4"

        def spawned() -> bool:
            one.do("process.spawn_monitored('app:finish', HOST)")
            return bool(one.event()["kind"] == "normal")

        wait_until(spawned)
