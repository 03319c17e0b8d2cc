"""exec and named spawn, with real processes (S5, S34)."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from support.puppet import PUPPET_ENTRIES, PUPPET_SOURCES, Puppet, PuppetError
from support.runtime import Runtime, actor, running_runtime
from support.waiting import wait_until

SOURCE = """
    import asyncio
    from wsrelay.workers import process

    HOST = "app:processes"

    def add(one, other):
        return {"sum": one + other}

    def cancelled():
        process.cancel(process.pid())
        process.events().receive()
        return "half a value"

    def wait_for_ever(group):
        process.groups.join(group)
        for _ in process.inbox():
            pass

    def executes(group):
        process.exec("app:wait_for_ever", HOST, group)

    async def coroutine():
        found = [await process.exec("app:add", HOST, 1, 2)]
        try:
            await process.exec("app:fail", HOST)
        except process.ExitError as error:
            found.append(error.reason.kind)
        try:
            await process.exec("app:wait_for_ever", HOST, "timeout", timeout="50ms")
        except process.Timeout:
            found.append("timeout")
        members, ref = await process.groups.watch("given-up")
        task = asyncio.ensure_future(process.exec("app:wait_for_ever", HOST, "given-up"))
        for _ in range(2):  # it has joined; it has died, because nobody waits for it
            found.append(type(await process.events().receive(timeout=10)).__name__)
            task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            found.append("cancelled")
        pid = await process.spawn("app:idle", HOST, name="by-a-coroutine")
        try:
            await process.spawn("app:idle", HOST, name="by-a-coroutine")
        except process.AlreadyExists as error:
            found.append(error.pid == pid)
        await process.terminate(pid)
        return found
"""
NAMES = ("add", "cancelled", "wait_for_ever", "executes", "coroutine")
ENTRIES = [*PUPPET_ENTRIES, *(actor(name, source="file://execution.py") for name in NAMES)]
SOURCES = {**PUPPET_SOURCES, "execution.py": SOURCE}


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    with running_runtime(tmp_path_factory.mktemp("exec"), ENTRIES, SOURCES) as running:
        yield running


def reason_of(puppet: Puppet, entry: str) -> str:
    """Have `entry` executed, which does not return; the reason's kind."""
    puppet.do(
        "try:\n    process.exec(entry, HOST)\n    raise AssertionError('it returned')\n"
        "except process.ExitError as error:\n    why = error.reason",
        entry=entry,
    )
    kind: str = puppet.do("why")["kind"]
    return kind


def test_a_value_a_reason_and_nothing_among_the_events(runtime: Runtime) -> None:
    # S34
    with Puppet(runtime) as caller:
        assert caller.do("process.exec('app:add', HOST, 20, 1)") == {"sum": 21}
        assert caller.do("process.exec('app:finish', HOST)") is None
        assert caller.do("process.exec('app:add', HOST, 1, 1, timeout=10)") == {"sum": 2}
        assert reason_of(caller, "app:fail") == "exception"
        assert reason_of(caller, "app:broken") == "exception"
        assert reason_of(caller, "app:cancelled") == "cancelled"
        with pytest.raises(PuppetError, match="ExitError: it did not return: exception: ValueError: failed"):
            caller.do("process.exec('app:fail', HOST)")
        with pytest.raises(PuppetError, match="NotFound"):
            caller.do("process.exec('app:nothing', HOST)")
        with pytest.raises(PuppetError, match="Invalid: timeout"):
            caller.do("process.exec('app:finish', HOST, timeout='soon')")
        assert caller.events_now() == []

    # S5, S34: and a cancelled task gives up
    with Puppet(runtime) as caller:
        assert caller.do("process.exec('app:coroutine', HOST, timeout=10)") == [
            {"sum": 3}, "exception", "timeout", "GroupJoined", "GroupLeft", "cancelled", True,
        ]  # fmt: skip


def test_a_child_that_nobody_waits_for_is_killed(runtime: Runtime) -> None:
    # S34
    with Puppet(runtime) as caller, Puppet(runtime) as watcher:
        assert watcher.do("process.groups.watch('slow')")[0] == []
        with pytest.raises(PuppetError, match="Timeout"):
            caller.do("process.exec('app:wait_for_ever', HOST, 'slow', timeout=0)")
        caller.order("process.exec('app:wait_for_ever', HOST, 'slow', timeout=0.5)")
        with pytest.raises(PuppetError, match="Timeout"):
            caller.answer()
        # Whether the child had joined by then is a matter of speed; that it is gone is not.
        wait_until(lambda: watcher.do("process.groups.members('slow')") == [], message="the child to be killed")
        assert caller.events_now() == []

    # S34
    with Puppet(runtime) as watcher:
        watcher.do("process.groups.watch('children')")
        caller = watcher.do("process.spawn('app:executes', HOST, 'children')")
        joined = watcher.do("type(found := process.events().receive(timeout=10)).__name__, found.member")
        assert joined[0] == "GroupJoined"
        watcher.do("child = process.monitor(pid)", pid=joined[1])
        watcher.do("process.terminate(caller)", caller=caller)
        left = watcher.do("type(found := process.events().receive(timeout=10)).__name__, found.member")
        assert left == ["GroupLeft", joined[1]]
        assert (event := watcher.event())["kind"] == "killed", event
        assert event["sender"] == joined[1]

    # S34
    with Puppet(runtime) as caller, Puppet(runtime) as killer:
        killer.do("process.groups.watch('victims')")
        caller.order("process.exec('app:wait_for_ever', HOST, 'victims')")
        killer.do("process.terminate(process.events().receive(timeout=10).member)")
        with pytest.raises(PuppetError, match="ExitError: it did not return: killed"):
            caller.answer()

    # S34
    with Puppet(runtime) as caller, Puppet(runtime) as watcher:
        watcher.do("process.groups.watch('waiting')")
        caller.do(
            "class Enough(Exception): pass\n"
            "def enough(*_): raise Enough('enough')\n"
            "signal.signal(signal.SIGUSR1, enough)"
        )
        caller.order("process.exec('app:wait_for_ever', HOST, 'waiting')")
        kinds = [watcher.do("type(process.events().receive(timeout=10)).__name__")]
        os.kill(caller.os_pid, signal.SIGUSR1)
        with pytest.raises(PuppetError, match="Enough"):
            caller.answer()
        kinds.append(watcher.do("type(process.events().receive(timeout=10)).__name__"))
        assert kinds == ["GroupJoined", "GroupLeft"]
        assert caller.do("process.exec('app:add', HOST, 1, 1)") == {"sum": 2}


def test_of_many_named_spawns_one_wins(runtime: Runtime) -> None:
    # S5
    with ExitStack() as stack:
        puppets = [stack.enter_context(Puppet(runtime)) for _ in range(6)]
        winners = []
        for name in ("one", "two", "three"):
            for puppet in puppets:
                puppet.order("process.spawn('app:idle', HOST, name=name)", name=name)
            won, lost = [], []
            for puppet in puppets:
                try:
                    won.append(puppet.answer())
                except PuppetError as error:
                    lost.append((error.kind, error.pid))
            assert len(won) == 1
            assert lost == [("AlreadyExists", won[0])] * 5
            assert puppets[0].do("process.registry.lookup(name)", name=name) == won[0]
            winners += won
        one = puppets[0]
        # the other colours of spawn
        pid, ref = one.do("process.spawn_linked_monitored('app:finish', HOST, name='four')")
        assert ((event := one.event())["sender"], event["ref"]) == (pid, ref)
        assert one.do("process.registry.lookup('four')") is None
        assert one.do("process.spawn_monitored('app:finish', HOST, name='four')")[0] == one.event()["sender"]
        with pytest.raises(PuppetError, match="AlreadyExists") as taken:
            one.do("process.spawn_linked('app:idle', HOST, name='one')")
        assert taken.value.pid == winners[0]
        with pytest.raises(PuppetError, match="Invalid"):
            one.do("process.spawn('app:idle', HOST, name='{no name}')")
        for pid in winners:
            one.do("process.terminate(pid)", pid=pid)
