"""Upgrade with real processes (S35): what stays, what goes along, what fails, and what is killed on the way."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from typing import Any
from urllib.request import urlopen

import psutil
import pytest
from support.puppet import PUPPET_ENTRIES, PUPPET_SOURCES, Puppet, PuppetError
from support.runtime import Runtime, actor, endpoint, running_runtime
from support.waiting import wait_until
from websockets.sync.client import connect

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
            answer = [payload["data"][-10:], generation, os.getpid(), message.topic]
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


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    with running_runtime(tmp_path_factory.mktemp("upgrade"), ENTRIES, SOURCES) as running:
        yield running


WHEN_CANCELLED = "(process.send(client, 'ws.send', {'data': json.dumps({'value': 'waits'})}) or process.events().receive(timeout=60))"
"""Answers that it waits, and takes no mail: so what is sent from then on is unread."""


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
        child = one.do("__import__('subprocess').Popen(['sleep', '1000'], start_new_session=True).pid")
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
        assert {(event["event"], event.get("ref")) for event in events} == {
            ("exit", refs[1]), ("exit", new), ("link_down", None),
        }  # fmt: skip
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


def test_a_numbered_stream_crosses_many_upgrades(runtime: Runtime) -> None:
    # S6, S35, S46: nothing lost, nothing doubled, no join or leave
    count = 1000
    with connect(runtime.ws_url("/numbered"), max_size=None) as client:
        assert json.loads(client.recv(timeout=15))[0] == "ws.join"
        for number in range(count):
            client.send(str(number))
        answers = [json.loads(client.recv(timeout=30)) for _ in range(count)]
        assert [(data, topic) for data, _, _, topic in answers] == [(str(n), "ws.message") for n in range(count)]
        assert [generation for _, generation, _, _ in answers] == [max(n - 1, 0) // 100 for n in range(count)]
        assert len({os_pid for _, _, os_pid, _ in answers}) == count // 100
    # Messages larger than one read: many are half there when the old code hands over.
    with connect(runtime.ws_url("/numbered"), max_size=None) as client:
        client.recv(timeout=15)
        for number in range(201):
            client.send(f"{number * 50:0>200000}")  # every second one ends a generation
        answers = [json.loads(client.recv(timeout=30)) for _ in range(201)]
        assert [int(data) for data, _, _, _ in answers] == [50 * number for number in range(201)]
        assert answers[-1][1] == 100


def test_mail_of_many_senders_stays_in_order_under_load(runtime: Runtime) -> None:
    # S6, S35: several MiB, from senders that do not wait
    with connect(runtime.ws_url("/sum"), max_size=None) as client:
        client.send(json.dumps({"senders": 4, "each": 1500, "size": 2000}))
        seen, generation = json.loads(client.recv(timeout=60))
        assert seen == {str(sender): 1500 for sender in range(4)}
        assert generation >= 6000 // 400


def test_a_large_backlog_goes_along(runtime: Runtime) -> None:
    # S35: read ahead, in the socket and in the supervisor: 20 MiB, and the messages of a connection beside them
    with Puppet(runtime) as one, Puppet(runtime) as other:
        one.order(f"{WHEN_CANCELLED} and process.upgrade('app:renewed', client)")
        assert one.answer() == "waits"
        other.order("[process.send(one, 'large', [n, b'x' * 20_000]) for n in range(1000)] and None", one=one.pid)
        other.answer(60)
        other.do("process.cancel(one)")
        assert one.answer(60) != one.os_pid
        assert one.do("[n for n, _ in take(1000)] == list(range(1000))")
        other.do("process.send(one, 'last', 1)")
        assert one.do("take(1)") == [1]


def test_async_handlers_are_upgraded_too(runtime: Runtime) -> None:
    # S35
    with connect(runtime.ws_url("/async")) as client:
        client.send("a")
        assert client.recv(timeout=15) == "upgraded"
        expected = ["a"]  # it was unread at the first upgrade
        assert json.loads(client.recv(timeout=15)) == expected
        for word in ["b", "upgrade", "c", "upgrade", "d"]:
            client.send(word)
            if word == "upgrade":
                assert client.recv(timeout=15) == "upgraded"
            else:
                expected.append(word)
                assert json.loads(client.recv(timeout=15)) == expected


def test_what_cannot_be_upgraded_lives_on(runtime: Runtime) -> None:
    # S35: known before anything happens, so it raises in the caller
    with Puppet(runtime) as one:
        with pytest.raises(PuppetError, match=r"NotFound: .*app:nobody"):
            one.do("process.upgrade('app:nobody')")
        with pytest.raises(PuppetError, match=r"Invalid: args"):
            one.do("process.upgrade('app:idle', {1, 2})")
        with pytest.raises(PuppetError, match="Invalid: expected the id of the entry"):
            one.do("process.upgrade(3)")
        with pytest.raises(PuppetError, match="LimitExceeded"):
            one.do("process.upgrade('app:idle', b'x' * (17 << 20))")
        with pytest.raises(PuppetError, match="LimitExceeded: not upgraded"):
            one.do(
                "import resource; soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)\n"
                "resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))\n"
                "try:\n"
                "    process.upgrade()\n"
                "finally:\n"
                "    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))\n"
            )
        assert one.do("os.getpid()") == one.os_pid
    with urlopen(runtime.url("/function")) as answer:
        assert answer.read().startswith(b"NotPermitted: ")


def test_a_failed_upgrade_is_one_death(runtime: Runtime) -> None:
    # S12, S35
    cases = [
        ("process.upgrade('app:broken')", "exception: ModuleNotFoundError: No module named 'no_such_module'", 1011),
        ("process.upgrade('app:raises', 'at once')", "exception: ValueError: at once", 1011),
        ("process.upgrade('app:raises')", "exception: TypeError", 1011),
        ("process.upgrade('app:crashes')", "signal:SIGSEGV", 1011),
        ("process.upgrade('app:returns', 1)", "normal", 1000),
    ]
    with Puppet(runtime) as watcher:
        watcher.do("process.set_options(trap_links=True)")
        for order, text, code in cases:
            with Puppet(runtime) as one:
                ref = watcher.do("process.monitor(one)", one=one.pid)
                watcher.do("process.link(one)")
                one.do("process.registry.register('its.name')")
                one.order(order)
                event = watcher.event()
                assert event["text"].startswith(text)
                assert event["ref"] == ref
                if code != 1000:
                    assert (down := watcher.event())["event"] == "link_down"
                    assert down["text"] == event["text"]
                assert one.end()[0] == code
                assert watcher.events_now() == []
                assert watcher.do("process.registry.lookup('its.name')") is None


def test_a_caller_of_exec_waits_for_the_new_code(runtime: Runtime) -> None:
    # S34, S35
    with Puppet(runtime) as one:
        assert one.do("process.exec('app:upgrades_to', HOST, 'app:returns', 42, timeout=10)") == 42
        with pytest.raises(PuppetError, match="ValueError: no value"):
            one.do("process.exec('app:upgrades_to', HOST, 'app:raises', 'no value', timeout=10)")


@pytest.mark.parametrize("stopped", [False, True])
def test_listened_topics_and_cancel_go_along(runtime: Runtime, stopped: bool) -> None:
    # S10, S29, S35. Two cancel: a second CANCEL of the same sender would be one with the first, if that is still unread.
    with Puppet(runtime) as one, Puppet(runtime) as other, Puppet(runtime) as third:
        one.do("mine = process.listen('mine')")
        one.order(f"{WHEN_CANCELLED} and process.upgrade('app:renewed', client)")
        assert one.answer() == "waits"
        if stopped:
            os.kill(one.os_pid, signal.SIGSTOP)
        other.do("process.cancel(one)", one=one.pid)
        other.do("[process.send(one, topic, n) for n, topic in enumerate(['a', 'mine', 'a', 'mine'])]")
        third.do("process.cancel(one)", one=one.pid)
        if stopped:
            other.do("process.cancel(one)")
            other.do("process.registry.lookup('x')")  # the supervisor has taken all that came before
            third.do("process.registry.lookup('x')")
            os.kill(one.os_pid, signal.SIGCONT)
        assert one.answer() != one.os_pid
        assert one.do("take(4)") == [0, 1, 2, 3], "what was listened to is inbox again"
        assert one.event() == {"event": "cancel", "sender": third.pid}
        assert one.events_now() == []


def test_listen(runtime: Runtime) -> None:
    # S6, S10
    with Puppet(runtime) as one, Puppet(runtime) as other:
        send = "[process.send(one, topic, n) for n, topic in enumerate('abab')] and process.cancel(one)"
        one.order(f"{WHEN_CANCELLED} and (b := process.listen('b')) and None")
        assert one.answer() == "waits"
        other.do(send, one=one.pid)
        one.answer()
        one.order(f"{WHEN_CANCELLED} and None")
        assert one.answer() == "waits"
        other.do(send)
        one.answer()
        assert one.do("[b.receive(timeout=10).payload for _ in range(4)]") == [1, 3, 1, 3]
        assert one.do("take(4)") == [0, 2, 0, 2]
        one.order(f"{WHEN_CANCELLED} and [process.listen('b').receive(timeout=10).payload, process.unlisten('b')]")
        assert one.answer() == "waits"
        other.do(send)
        assert one.answer() == [1, None]
        assert one.do("take(3)") == [0, 2, 3], "in the order of arrival"
        with pytest.raises(PuppetError, match="NotListening: this process does not listen to 'b'"):
            one.do("b.receive(timeout=0)")
        assert one.do("list(b)") == []
        for topic in ("", "@x", "x" * 300, 7):
            with pytest.raises(PuppetError, match="Invalid"):
                one.do("process.listen(topic)", topic=topic)
