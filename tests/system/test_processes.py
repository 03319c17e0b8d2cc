"""The promises between processes, with real processes: sending, monitors, links, cancel, terminate, names."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.puppet import PUPPET_ENTRIES, PUPPET_SOURCES, Puppet, PuppetError
from support.runtime import Runtime, running_runtime
from support.waiting import wait_until

DEAD_PID = "{node@app:processes|0123456789abcdef.s.1}"


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    with running_runtime(tmp_path_factory.mktemp("processes"), PUPPET_ENTRIES, PUPPET_SOURCES) as running:
        yield running


def test_monitors(runtime: Runtime) -> None:
    with Puppet(runtime) as watcher, Puppet(runtime) as other:
        # S19: monitors stack, each fires once
        refs = [watcher.do("process.monitor(other)", other=other.pid) for _ in range(4)]
        assert len(set(refs)) == 4
        # S21: one ref, then all of a PID
        watcher.do("process.unmonitor(ref)", ref=refs[0])
        watcher.do("process.terminate(other)")
        events = [watcher.event() for _ in range(3)]
        assert [event["ref"] for event in events] == refs[1:]
        assert {event["kind"] for event in events} == {"killed"}
        assert other.end() == (1011, "killed")
        assert watcher.events_now() == []
        # S20: monitoring the dead is no error
        ref = watcher.do("process.monitor(other)")
        assert (event := watcher.event())["kind"] == "noproc"
        assert event["ref"] == ref
        # S8: sends to what is known to be dead raise
        with pytest.raises(PuppetError, match="NotFound"):
            watcher.do("process.send(other, 'topic', 1)")
        # S1: a PID of an older epoch is noproc
        watcher.do("process.monitor(dead)", dead=DEAD_PID)
        assert watcher.event()["kind"] == "noproc"
        # S22: clean exits fire too
        pid, ref = watcher.do("process.spawn_monitored('app:finish', HOST, [1, 2])")
        event = watcher.event()
        assert (event["sender"], event["ref"], event["kind"], event["clean"]) == (pid, ref, "normal", True)


def test_unmonitor_by_pid_and_flush(runtime: Runtime) -> None:
    # S19, S21
    with Puppet(runtime) as watcher:
        pid = watcher.do("process.spawn('app:idle', HOST)")
        watcher.do("refs = [process.monitor(pid) for _ in range(3)]", pid=pid)
        watcher.do("process.unmonitor(pid)")
        ref = watcher.do("process.monitor(pid)")
        watcher.do("process.terminate(pid)")
        assert watcher.event()["ref"] == ref
        pid, ref = watcher.do("process.spawn_monitored('app:finish', HOST)")
        # A second monitor tells when the first one's EXIT is queued: they are told in order.
        watcher.do("second = process.monitor(pid)", pid=pid)
        watcher.do("process.unmonitor(ref, flush=True)", ref=ref)
        assert watcher.event()["ref"] == watcher.do("second")
        assert watcher.events_now() == []


def test_spawned_processes_die_with_their_real_reason(runtime: Runtime) -> None:
    # S3, S4
    with Puppet(runtime) as parent:
        for _ in range(20):
            pid, ref = parent.do("process.spawn_monitored('app:fail', HOST, 'at once')")
            event = parent.event()
            assert (event["sender"], event["ref"]) == (pid, ref)
            assert event["text"] == "exception: ValueError: at once"
        parent.do("process.spawn_monitored('app:broken', HOST)")
        assert parent.event()["text"].startswith("exception: ModuleNotFoundError")
        with pytest.raises(PuppetError, match=r"NotFound: .*app:nobody"):
            parent.do("process.spawn('app:nobody', HOST)")
        with pytest.raises(PuppetError, match=r"NotFound: .*app:nowhere"):
            parent.do("process.spawn('app:idle', 'app:nowhere')")
        parent.do("process.set_options(trap_links=True)")
        pid = parent.do("process.spawn_linked('app:fail', HOST)")
        assert (event := parent.event())["event"] == "link_down"
        assert event["sender"] == pid


def test_links_carry_death_and_its_origin(runtime: Runtime) -> None:
    # S23, S25, S26
    with Puppet(runtime) as watcher, Puppet(runtime) as first, Puppet(runtime) as second, Puppet(runtime) as third:
        for puppet in (first, second, third):
            watcher.do("process.monitor(other)", other=puppet.pid)
        first.do("process.link(other)", other=second.pid)
        first.do("process.link(other)")
        second.do("process.link(other)", other=third.pid)
        third.do("process.link(process.pid())")
        second.order("os._exit(7)")
        events = {event["sender"]: event for event in (watcher.event() for _ in range(3))}
        assert set(events) == {first.pid, second.pid, third.pid}
        assert {event["kind"] for event in events.values()} == {"exit:7"}
        assert events[second.pid]["origin"] is None
        assert events[first.pid]["origin"] == events[third.pid]["origin"] == second.pid
        assert {puppet.end() for puppet in (first, second, third)} == {(1011, "exit:7")}


def test_trapping_unlinking_and_linking_to_the_dead(runtime: Runtime) -> None:
    # S24, S25, S27, S28
    with Puppet(runtime) as one, Puppet(runtime) as other, Puppet(runtime) as third:
        with pytest.raises(PuppetError, match="NoProc"):
            one.do("process.link(dead)", dead=DEAD_PID)
        one.do("process.set_options(trap_links=True)")
        one.do("process.link(dead)")
        assert (event := one.event())["event"] == "link_down"
        assert event["kind"] == "noproc"
        one.do("process.link(other)", other=other.pid)
        one.do("process.link(third)", third=third.pid)
        one.do("process.unlink(third)")
        third.order("os._exit(1)")
        assert third.end() == (1011, "exit:1")
        other.order("os.kill(os.getpid(), signal.SIGKILL)")
        assert (event := one.event())["event"] == "link_down"
        assert event["kind"] == "signal:SIGKILL"
        assert event["sender"] == other.pid
        assert one.events_now() == []
        # A clean exit propagates nothing.
        one.do("process.set_options(trap_links=False)")
        one.do("process.spawn_linked('app:finish', HOST)")
        pid, _ = one.do("process.spawn_monitored('app:finish', HOST)")
        assert one.event()["sender"] == pid


def test_cancel_and_terminate(runtime: Runtime) -> None:
    # S29, S30
    with Puppet(runtime) as one, Puppet(runtime) as other:
        one.do("ref = process.monitor(other)", other=other.pid)
        one.do("process.cancel(other)")
        one.do("process.cancel(other)")
        assert (event := other.event())["event"] == "cancel"
        assert event["sender"] == one.pid
        assert other.do("1 + 1") == 2
        # Grace: a process that is still alive when it runs out is killed.
        one.do("process.cancel(other, grace='50ms')")
        assert one.event()["kind"] == "killed"
        assert other.end() == (1011, "killed")
        # A process that is gone is no error.
        one.do("process.terminate(other)")
        one.do("process.cancel(other)")
        for code in ("process.terminate('nonsense')", "process.cancel('{}')", "process.monitor('x')"):
            with pytest.raises(PuppetError, match="Invalid"):
                one.do(code)


@pytest.mark.parametrize(
    "hung", ["os.kill(os.getpid(), signal.SIGSTOP)", "while True: pass", "ctypes.CDLL(None).pause()"]
)
def test_hung_is_not_dead_and_terminate_works(runtime: Runtime, hung: str) -> None:
    # S17, S30
    with Puppet(runtime) as one, Puppet(runtime) as other:
        one.do("ref = process.monitor(other)", other=other.pid)
        other.order(hung)
        if "SIGSTOP" in hung:
            wait_until(lambda: process_state(other.os_pid) == "T", message="the process to stop")
        assert one.do("[process.send(other, 'number', n) for n in range(10)] and None") is None
        assert one.events_now() == []
        if "SIGSTOP" in hung:
            os.kill(other.os_pid, signal.SIGCONT)
            other.answer()
            assert other.do("take(10)") == list(range(10))
            os.kill(other.os_pid, signal.SIGSTOP)
        one.do("process.terminate(other)")
        assert one.event()["kind"] == "killed"
        assert other.end() == (1011, "killed")


def process_state(os_pid: int) -> str:
    """One letter, as in proc(5)."""
    return Path(f"/proc/{os_pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_names(runtime: Runtime) -> None:
    # S8, S15, S32
    with Puppet(runtime) as one, Puppet(runtime) as two:
        assert one.do("process.registry.lookup('room')") is None
        one.do("process.registry.register('room')")
        one.do("process.registry.register('room')")
        one.do("process.registry.register('hall')")
        assert two.do("process.registry.lookup('room')") == one.pid
        with pytest.raises(PuppetError, match="AlreadyExists") as taken:
            two.do("process.registry.register('room')")
        assert taken.value.pid == one.pid
        with pytest.raises(PuppetError, match="NotPermitted"):
            two.do("process.registry.unregister('room')")
        with pytest.raises(PuppetError, match="NoProc"):
            two.do("process.registry.register('cellar', dead)", dead=DEAD_PID)
        two.do("process.send('room', 'hello', {'n': 1})")
        assert one.do("take(1)") == [{"n": 1}]
        with pytest.raises(PuppetError, match="NotFound"):
            two.do("process.send('nobody', 'hello')")
        one.do("process.registry.unregister('hall')")
        two.do("process.monitor(one)", one=one.pid)
        one.order("sys.exit(0)")
        assert two.event()["kind"] == "normal"
        assert two.do("process.registry.lookup('room')") is None


def test_sending(runtime: Runtime) -> None:
    with Puppet(runtime) as one, Puppet(runtime) as two:
        # S6: in order, whole
        one.do("for n in range(5000): process.send(two, 'number', n)", two=two.pid)
        assert two.do("take(5000)") == list(range(5000))
        # S7: what was sent survives SIGKILL
        one.order("for n in range(500): process.send(two, 'last', n)\nos.kill(os.getpid(), signal.SIGKILL)")
        assert two.do("take(500)") == list(range(500))
        # S9, S10: what cannot be sent raises in the sender, and says what it is
        for code, words in [
            ("process.send(process.pid(), '@system')", "Invalid: .*@system"),
            ("process.send(process.pid(), 'ws.join', {})", "Invalid: .*ws.join"),
            ("process.send(process.pid(), 'topic', object())", "Invalid: .*object"),
            ("process.send(process.pid(), 'topic', {'a': [1, {1, 2}]})", "Invalid: .*set"),
            ("process.send('{not a pid}', 'topic')", "Invalid: .*PID"),
            ("process.send(client, 'news', float('nan'))", "Invalid"),
            ("process.send(client, 'news', {'a': b'bytes'})", "Invalid: .*bytes"),
            ("process.send(client, 'ws.send', {'type': 'text', 'data': b'bytes'})", "Invalid"),
            ("process.send(client, 'ws.send', {'type': 'binary', 'data': 'text'})", "Invalid"),
            ("process.send(client, 'ws.send', {'type': 'text', 'data': '\\ud800'})", "Invalid"),
            ("process.send(client, 'ws.close', {'code': 1006})", "Invalid: .*1006"),
            ("process.send(client, 'ws.close', {'code': 'no'})", "Invalid"),
            ("process.send(client, 'ws.control', {})", "Invalid: .*target_pid"),
            ("process.send(process.pid(), 'topic', b'x' * (17 << 20))", "LimitExceeded"),
        ]:
            with pytest.raises(PuppetError, match=words):
                two.do(code)
        # A send to several skips the dead among them.
        two.do("process.send([dead, process.pid()], 'several', 1)", dead=DEAD_PID)
        assert two.do("take(1)") == [1]


@pytest.mark.parametrize("garbage", [b"\xc1", b"\x92\x02\x01", b"\x92\x1a\x01", b"garbage" * 1000])
def test_a_worker_that_writes_garbage_dies_alone(runtime: Runtime, garbage: bytes) -> None:
    # S11: on either of its channels
    with Puppet(runtime) as watcher, Puppet(runtime) as bystander:
        for index in (0, -1):
            with Puppet(runtime) as culprit:
                watcher.do("process.monitor(other)", other=culprit.pid)
                culprit.order(
                    f"os.write(channels()[{index}], bytes.fromhex('{garbage.hex()}'))\nwhile True: process.receive()",
                )
                assert watcher.event()["kind"] == "protocol"
                assert culprit.end() == (1011, "protocol")
        assert bystander.do("'fine'") == "fine"


def test_a_torn_frame_is_dropped(runtime: Runtime) -> None:
    # S11: truncated by its sender's death, it is no violation
    with Puppet(runtime) as watcher, Puppet(runtime) as culprit:
        watcher.do("process.monitor(other)", other=culprit.pid)
        culprit.order("for channel in channels(): os.write(channel, b'\\x93\\x02')\nos._exit(4)")
        assert watcher.event()["kind"] == "exit:4"
        assert culprit.end() == (1011, "exit:4")


def test_connections_are_processes(runtime: Runtime) -> None:
    # S51, S52
    with Puppet(runtime) as watcher:
        with Puppet(runtime) as one:
            watcher.do("process.monitor(client_pid)", client_pid=one.client_pid)
            watcher.do("process.send(client_pid, 'news', {'n': 1})")
            assert one.connection.recv(timeout=10) == '{"topic":"news","data":{"n":1}}'
        assert (event := watcher.event())["kind"] == "normal"
        assert event["sender"] == one.client_pid
        for verb, code, kind in (("cancel", 1001, "cancelled"), ("terminate", 1011, "killed")):
            with Puppet(runtime) as one:
                watcher.do("process.monitor(client_pid)", client_pid=one.client_pid)
                watcher.do(f"process.{verb}(client_pid)")
                assert one.end()[0] == code
                assert watcher.event()["kind"] == kind
        with Puppet(runtime) as one:
            watcher.do("process.monitor(client_pid)", client_pid=one.client_pid)
            one.connection.close(code=3001)
            assert watcher.event()["kind"] == "ws_closed:3001"
        # Linked: its death takes the linked process along, and is taken along by it.
        with Puppet(runtime) as one, Puppet(runtime) as two:
            watcher.do("process.monitor(pid)", pid=two.pid)
            two.do("process.link(client_pid)", client_pid=one.client_pid)
            one.connection.close(code=3002)
            event = watcher.event()
            assert (event["kind"], event["origin"]) == ("ws_closed:3002", one.client_pid)
        with Puppet(runtime) as one, Puppet(runtime) as two:
            watcher.do("process.monitor(client_pid)", client_pid=one.client_pid)
            two.do("process.link(client_pid)", client_pid=one.client_pid)
            two.order("os._exit(5)")
            assert one.end()[0] == 1011
            event = watcher.event()
            assert (event["kind"], event["origin"]) == ("exit:5", two.pid)
