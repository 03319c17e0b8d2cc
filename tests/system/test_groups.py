"""Groups, with real processes and WebSocket connections (S33)."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from support.puppet import PUPPET_ENTRIES, PUPPET_SOURCES, Puppet, PuppetError
from support.runtime import Runtime, actor, running_runtime

SOURCE = """
    from wsrelay.workers import process

    def joins(group, times):
        "Joins and leaves, and dies as a member."
        for _ in range(times):
            process.groups.join(group)
            process.groups.leave(group)
        process.groups.join(group)

    def tells(group, count):
        "A broadcast and a direct send in turn."
        for number in range(count):
            process.groups.broadcast(group, "number", 2 * number)
            process.send(process.groups.members(group), "number", 2 * number + 1)

    async def coroutine(group):
        members, ref = await process.groups.watch(group)
        found = [members, await process.groups.join(group), await process.groups.join(group)]
        found.append(await process.groups.members(group) == [process.pid()])
        await process.groups.broadcast(group, "to", "myself")
        found.append((await process.inbox().receive(timeout=10)).payload)
        found += [await process.groups.leave(group), await process.groups.leave(group)]
        async for event in process.events():
            match event:
                case process.GroupJoined(group=name, member=member):
                    found.append([name, member == process.pid(), event.ref == ref])
                case process.GroupLeft():
                    break
        await process.groups.unwatch(ref)
        return found
"""
ENTRIES = [*PUPPET_ENTRIES, *(actor(name, source="file://groups.py") for name in ("joins", "tells", "coroutine"))]
SOURCES = {**PUPPET_SOURCES, "groups.py": SOURCE}


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    with running_runtime(tmp_path_factory.mktemp("groups"), ENTRIES, SOURCES) as running:
        yield running


def change(puppet: Puppet) -> list[object]:
    """The puppet's next event, which is a change of a group."""
    puppet.do("change = process.events().receive(timeout=10)")
    found: list[object] = puppet.do("[type(change).__name__, change.group, change.member, change.ref]")
    return found


def test_joins_are_counted(runtime: Runtime) -> None:
    # S33
    with Puppet(runtime) as one, Puppet(runtime) as two:
        assert one.do("[process.groups.join('red'), process.groups.join('red')]") == [1, 2]
        assert two.do("process.groups.join('red')") == 1
        assert one.do("process.groups.join('red', other)", other=two.pid) == 2
        assert two.do("process.groups.members('red')") == [one.pid, two.pid]
        assert one.do("[process.groups.leave('red'), process.groups.leave('red'), process.groups.leave('red')]") == [
            1,
            0,
            0,
        ]
        assert two.do("process.groups.members('red')") == [two.pid]
        assert two.do("[process.groups.leave('red'), process.groups.leave('red')]") == [1, 0]
        assert two.do("process.groups.members('red')") == []
        assert two.do("process.groups.broadcast('red', 'nobody', 1)") is None
        with pytest.raises(PuppetError, match="Invalid"):
            one.do("process.groups.join('')")
        with pytest.raises(PuppetError, match="Invalid"):
            one.do("process.groups.broadcast('red', 'ws.join', 1)")
        dead = one.do("process.spawn_monitored('app:finish', HOST)")[0]
        assert one.event()["sender"] == dead
        with pytest.raises(PuppetError, match="NoProc"):
            one.do("process.groups.join('red', dead)", dead=dead)

    # S33
    with Puppet(runtime) as caller:
        found = caller.do("process.exec('app:coroutine', HOST, 'async', timeout=10)")
        assert found == [[], 1, 2, True, "myself", 1, 0, ["async", True, True]]


def test_a_broadcast_reaches_processes_and_clients_once(runtime: Runtime) -> None:
    # S33, S6
    with Puppet(runtime) as one, Puppet(runtime) as two:
        for puppet in (one, two):
            puppet.do("[process.groups.join('all'), process.groups.join('all'), process.groups.join('all', client)]")
        one.order("process.groups.broadcast('all', 'news', {'number': 1})")
        news = {"topic": "news", "data": {"number": 1}}
        assert json.loads(two.connection.recv(timeout=10)) == news
        answers = [json.loads(one.connection.recv(timeout=10)) for _ in range(2)]
        assert news in answers
        assert {"value": None} in answers
        assert one.do("take(1)") == two.do("take(1)") == [{"number": 1}]
        with pytest.raises(PuppetError, match="Invalid"):  # JSON carries no bytes (S9)
            one.do("process.groups.broadcast('all', 'news', b'bytes')")
        for puppet in (one, two):
            puppet.do("process.groups.leave('all', client)")
        # S6: in order with what is sent directly
        one.do("process.spawn('app:tells', HOST, 'all', 50)")
        assert one.do("take(100)") == two.do("take(100)") == list(range(100))
        assert one.do("mail") == []


def test_a_watch_has_no_gap(runtime: Runtime) -> None:
    # S33: whenever it is made, the snapshot and the changes make the group
    with Puppet(runtime) as watcher:
        pids = [watcher.do("process.spawn('app:joins', HOST, 'busy', 30)") for _ in range(3)]
        watcher.do("seen = [process.groups.watch('busy') for _ in range(20)]")
        refs = [watcher.do("process.monitor(pid)", pid=pid) for pid in pids]
        watcher.do(
            "groups = {ref: set(members) for members, ref in seen}\n"
            "ends, wrong = 0, []\n"
            "while ends < 3:\n"
            "    match process.events().receive(timeout=10):\n"
            "        case process.GroupJoined(member=member, ref=ref):\n"
            "            if member in groups[ref]: wrong.append(['joined', member])\n"
            "            groups[ref].add(member)\n"
            "        case process.GroupLeft(member=member, ref=ref):\n"
            "            if member not in groups[ref]: wrong.append(['left', member])\n"
            "            groups[ref].discard(member)\n"
            "        case process.Exit(sender):\n"
            "            ends += 1\n"
            "            wrong += [['dead', sender] for group in groups.values() if sender in group]\n"
        )
        assert len(refs) == 3
        assert watcher.do("wrong") == []
        assert watcher.do("[group for group in groups.values() if group]") == []

    # S33
    with Puppet(runtime) as watcher:
        first = watcher.do("process.groups.watch('mine')")
        second = watcher.do("process.groups.watch('mine')")
        watcher.do("process.groups.join('mine')")
        watcher.do("process.groups.unwatch(ref)", ref=first[1])
        watcher.do("process.groups.leave('mine')")
        assert change(watcher) == ["GroupJoined", "mine", watcher.pid, second[1]]
        assert change(watcher) == ["GroupLeft", "mine", watcher.pid, second[1]]
        assert watcher.events_now() == []
        with pytest.raises(PuppetError, match="Invalid"):
            watcher.do("process.groups.unwatch('mine')")


def test_death_leaves_the_groups_before_its_exit(runtime: Runtime) -> None:
    # S15, S33
    with Puppet(runtime) as watcher, Puppet(runtime) as other:
        ref = watcher.do("process.groups.watch('mortal')")[1]
        other.do("process.groups.join('mortal')")
        watcher.do("process.groups.join('mortal')")
        exit_ref = watcher.do("process.monitor(other)", other=other.pid)
        other.order("os.kill(os.getpid(), signal.SIGKILL)")
        assert change(watcher) == ["GroupJoined", "mortal", other.pid, ref]
        assert change(watcher) == ["GroupJoined", "mortal", watcher.pid, ref]
        assert change(watcher) == ["GroupLeft", "mortal", other.pid, ref]
        assert watcher.event()["ref"] == exit_ref
        assert watcher.do("process.groups.members('mortal')") == [watcher.pid]
        assert other.end()[0] == 1011

    # S33
    with Puppet(runtime) as watcher:
        ref = watcher.do("process.groups.watch('clients')")[1]
        with Puppet(runtime) as other:
            other.do("process.groups.join('clients', client)")
            assert change(watcher) == ["GroupJoined", "clients", other.client_pid, ref]
        assert change(watcher) == ["GroupLeft", "clients", other.client_pid, ref]
        watcher.do("process.terminate(other)", other=other.pid)
