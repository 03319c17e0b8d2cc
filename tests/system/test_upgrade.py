"""Upgrade with real processes (S35): what stays, what goes along, what fails, and what is killed on the way."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from support.clients import close_of
from support.puppet import PUPPET_ENTRIES, PUPPET_SOURCES, Puppet, PuppetError
from support.runtime import Runtime, actor, application, endpoint, running_runtime
from support.waiting import wait_until
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

RENEWED = '''
    """A puppet that upgrades itself goes on as this: it answers the order with its os_pid."""

    import asyncio, json, os, sys
    import puppet
    from puppet import NAMES
    from wsrelay.workers import http, process

    def renewed(client, names=None):
        NAMES.update(names or {}, client=client)
        process.send(client, "ws.send", {"data": json.dumps({"value": os.getpid()})})
        puppet.puppet(client)

    def raises(text):
        raise ValueError(text)

    def crashes():
        os.kill(os.getpid(), 11)

    def returns(value):
        return value

    def upgrades_to(entry, *args):
        """What `exec` runs."""
        process.upgrade(entry, *args)

    def function():
        try:
            process.upgrade()
        except process.ProcessError as error:
            http.response().write(f"{type(error).__name__}: {error}")

    async def loses_nothing(client, taken=None):
        """Async. Upgrades itself at every order to do so, in a task beside the one that receives."""
        if taken is None:
            taken = []
        else:
            await process.send(client, "ws.send", {"data": "upgraded"})
        async for message in process.inbox():
            if message.topic != "ws.message":
                continue
            if message.payload["data"] == "upgrade":
                await asyncio.create_task(process.upgrade(None, client, taken))
            taken.append(message.payload["data"])
            await process.send(client, "ws.send", {"data": json.dumps(taken)})

    def open_async():
        http.response().relay_to(process.spawn("app:first", "app:processes"))

    async def first():
        message = await process.inbox().receive()
        await process.upgrade("app:loses_nothing", message.sender, [])

    def open_numbered():
        http.response().relay_to(process.spawn("app:numbered", "app:processes"))

    def numbered(generation=0, client=None):
        """Echoes; every message that ends in 00 ends a generation."""
        for message in process.inbox():
            payload = message.payload
            if message.topic != "ws.message":
                payload = {"client_pid": payload["client_pid"], "data": message.topic}
            answer = [payload["data"], generation, os.getpid(), message.topic]
            process.send(message.sender, "ws.send", {"data": json.dumps(answer)})
            if payload["data"].endswith("00"):
                process.upgrade(None, generation + 1, message.sender)

    def open_sum():
        http.response().relay_to(process.spawn("app:total", "app:processes"))

    def total(client=None, seen=None, generation=0, senders=0, each=0):
        """Starts senders, takes what they send, and upgrades itself all the while."""
        if client is None:
            join = process.inbox().receive()
            order = json.loads(process.inbox().receive().payload["data"])
            for sender in range(order["senders"]):
                process.spawn("app:sender", "app:processes", process.pid(), sender, order["each"], order["size"])
            process.upgrade(None, join.sender, {}, 1, order["senders"], order["each"])
        taken = 0
        while sum(seen.values()) < senders * each:
            message = process.receive(timeout=20)
            sender, number, _ = message.payload
            if number != seen.get(sender, 0):
                process.send(client, "ws.send", {"data": f"{sender}: {number} after {seen.get(sender)}"})
                return
            seen[sender] = number + 1
            taken += 1
            if taken == 400:
                process.upgrade(None, client, seen, generation + 1, senders, each)
        process.send(client, "ws.send", {"data": json.dumps([seen, generation])})

    def sender(to, sender, each, size):
        for number in range(each):
            process.send(to, "number", [sender, number, b"x" * size])
'''
SOURCE = "file://renewed.py"
ENTRIES = [
    *PUPPET_ENTRIES,
    *(
        actor(name, source=SOURCE)
        for name in (
            "renewed", "raises", "crashes", "returns", "upgrades_to", "loses_nothing", "first", "numbered", "total", "sender",
        )
    ),
    *endpoint("/function", "function", source=SOURCE),
    *endpoint("/async", "open_async", source=SOURCE),
    *endpoint("/numbered", "open_numbered", source=SOURCE),
    *endpoint("/sum", "open_sum", source=SOURCE),
]  # fmt: skip
SOURCES = {**PUPPET_SOURCES, "renewed.py": RENEWED}


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[Runtime]:
    with running_runtime(tmp_path, ENTRIES, SOURCES) as running:
        yield running


def upgrade(puppet: Puppet, **names: Any) -> int:
    """Have a puppet upgrade itself. Returns the os_pid of its new code."""
    puppet.order("process.upgrade('app:renewed', client, kept)", kept=names)
    os_pid: int = puppet.answer()
    return os_pid


def test_everybody_else_notices_nothing(runtime: Runtime) -> None:
    # S35
    with Puppet(runtime) as one, Puppet(runtime) as other:
        one.do("process.registry.register('the.name')")
        one.do("process.groups.join('the.group'), process.groups.join('the.group')")
        one.do("process.set_options(trap_links=True)")
        refs = [one.do("process.monitor(other)", other=other.pid) for _ in range(2)]
        theirs = other.do("process.monitor(one)", one=one.pid)
        one.do("process.link(other)")
        _, watch = one.do("process.groups.watch('watched')")
        child = one.do("import subprocess; names = 0") or one.do("subprocess.Popen(['sleep', '1000']).pid")
        before = psutil.Process(one.os_pid)

        os_pid = upgrade(one, other=other.pid)

        assert os_pid != one.os_pid
        assert not before.is_running(), "the old OS process is reaped before the new code runs"
        wait_until(lambda: not psutil.pid_exists(child), message="the old code's child to be killed")
        assert one.do("process.pid()") == one.pid
        assert other.do("process.registry.lookup('the.name')") == one.pid
        assert other.do("process.groups.members('the.group')") == [one.pid]
        assert one.do("process.groups.leave('the.group')") == 1, "joins are counted"
        assert one.do("process.registry.register('the.name')") is None
        new = one.do("process.monitor(other)")
        assert new not in (*refs, theirs, watch), "new refs never collide with old ones (S19)"
        one.do("process.unmonitor(ref)", ref=refs[0])
        other.do("process.groups.join('watched')")
        changed = one.do("str(process.events().receive(timeout=10))")
        assert "GroupJoined" in changed
        assert f"ref={watch}" in changed
        other.order("os._exit(3)")
        left = one.do("str(process.events().receive(timeout=10))")
        assert "GroupLeft" in left
        events = [one.event() for _ in range(3)]
        assert sorted((event["event"], event.get("ref")) for event in events) == sorted(
            [("exit", refs[1]), ("exit", new), ("link_down", None)], key=str
        ) or {event.get("ref") for event in events} == {refs[1], new, None}
        assert {event["kind"] for event in events} == {"exit:3"}
        assert one.events_now() == []


def test_others_are_told_of_the_end_of_the_new_code(runtime: Runtime) -> None:
    # S35: monitors and links of others hold
    with Puppet(runtime) as watcher, Puppet(runtime) as one:
        watcher.do("process.set_options(trap_links=True)")
        ref = watcher.do("process.monitor(one)", one=one.pid)
        watcher.do("process.link(one)")
        upgrade(one)
        upgrade(one)
        assert watcher.events_now() == []
        one.order("os._exit(7)")
        events = [watcher.event() for _ in range(2)]
        assert [event["event"] for event in events] == ["exit", "link_down"]
        assert events[0]["ref"] == ref
        assert {event["text"] for event in events} == {"exit:7"}
        assert one.end() == (1011, "exit:7")
