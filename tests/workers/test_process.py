"""The process API in real workers, blocking and async, against a supervisor and a gateway that the test plays."""

from __future__ import annotations

import os
import signal
from typing import Any

import msgpack
import psutil
import pytest
from support.waiting import wait_until
from support.worker_lab import PEER, Ended, Lab, Worker, connection, packed
from wsrelay.kernel.wire import messages as wire
from wsrelay.kernel.wire.reason import NORMAL, WireReason

KILLED = WireReason("killed", "", None, "killed")

SCRIPT = f"""
import asyncio, os, signal, sys, threading, time
from wsrelay.workers import http, process

PEER = "{PEER}"

def show(value):
    if isinstance(value, (process.Exit, process.LinkDown, process.Cancel)):
        return [type(value).__name__, value.sender, str(value.reason), value.reason.value, getattr(value, "ref", None)]
    if isinstance(value, process.Message):
        return ["Message", value.topic, value.payload, value.sender]
    if isinstance(value, (tuple, list)):
        return [show(item) for item in value]
    return value

def puppet():
    names = dict(globals())
    for message in process.inbox():
        if message.topic != "do":
            names.setdefault("mail", []).append(message)
            continue
        try:
            answer = ["value", show(eval(message.payload, names))]
        except process.ProcessError as error:
            answer = [type(error).__name__, str(error)]
        process.send(PEER, "answer", answer)

async def async_puppet():
    names = dict(globals())
    async for message in process.inbox():
        if message.topic != "do":
            names.setdefault("mail", []).append(message)
            continue
        try:
            value = eval(message.payload, names)
            answer = ["value", show(await value if hasattr(value, "__await__") else value)]
        except process.ProcessError as error:
            answer = [type(error).__name__, str(error)]
        await process.send(PEER, "answer", answer)
"""


@pytest.fixture(scope="module")
def source(lab: Lab) -> str:
    return lab.source(SCRIPT)


class Puppet:
    """A worker that evaluates what it is sent."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker

    def ask(self, code: str) -> None:
        self.worker.tell(wire.Deliver(PEER, "do", packed(code)))

    def answer(self) -> Any:
        kind, value = self.worker.message("answer")
        return value if kind == "value" else (kind, value)

    def do(self, code: str) -> Any:
        self.ask(code)
        return self.answer()


@pytest.fixture(params=["puppet", "async_puppet"])
def puppet(request: pytest.FixtureRequest, lab: Lab, source: str) -> Any:
    with lab.start(lab.fork(), source, request.param) as worker:
        yield Puppet(worker)


def test_requests(puppet: Puppet, lab: Lab) -> None:
    worker = puppet.worker
    child = lab.pid(500)
    assert puppet.do("process.pid()") == lab.pid(worker.number)
    for call, link, monitor in (
        ("spawn", False, False),
        ("spawn_linked", True, False),
        ("spawn_monitored", False, True),
        ("spawn_linked_monitored", True, True),
    ):
        puppet.ask(f"process.{call}('app:x', 'app:processes', 1, 'two')")
        request = worker.answer(wire.Spawn, child)
        expected = ("app:x", "app:processes", packed([1, "two"]), link, monitor)
        assert request[1:] == expected
        assert puppet.answer() == ([child, request.request] if monitor else child)
    puppet.ask("process.monitor(PEER)")
    request = worker.answer(wire.Monitor)
    assert (request.pid, puppet.answer()) == (PEER, request.request)
    simple = [
        ("unmonitor(7)", wire.Unmonitor(0, 7)),
        ("unmonitor(PEER)", wire.UnmonitorAll(0, PEER)),
        ("link(PEER)", wire.Link(0, PEER)),
        ("unlink(PEER)", wire.Unlink(0, PEER)),
        ("set_options(trap_links=True)", wire.SetOptions(0, True)),
        ("registry.register('room')", wire.Register(0, "room", lab.pid(worker.number))),
        ("registry.register('room', PEER)", wire.Register(0, "room", PEER)),
        ("registry.unregister('room')", wire.Unregister(0, "room")),
    ]
    for call, record in simple:
        puppet.ask(f"process.{call}")
        assert worker.answer(type(record))[1:] == record[1:]
        assert puppet.answer() is None
    puppet.ask("process.registry.lookup('room')")
    worker.answer(wire.Lookup, PEER)
    assert puppet.answer() == PEER
    puppet.ask("process.registry.lookup('room')")
    worker.answer(wire.Lookup)
    assert puppet.answer() is None


def test_failures_raise(puppet: Puppet) -> None:
    # S3, S24, S32
    for error in ("NotFound", "LimitExceeded", "NoProc", "NotPermitted", "Made up"):
        puppet.ask("process.spawn('app:x', 'app:processes')")
        request = puppet.worker.expect(wire.Spawn)
        puppet.worker.tell(wire.Failed(request.request, error, "why", None))
        assert puppet.answer() == ("ProcessError" if error == "Made up" else error, "why")
    puppet.ask("process.registry.register('room')")
    request = puppet.worker.expect(wire.Register)
    puppet.worker.tell(wire.Failed(request.request, "AlreadyExists", "taken", PEER))
    assert puppet.answer() == ("AlreadyExists", "taken")


@pytest.mark.parametrize(
    "call",
    [
        "send('{x', 't')",
        "send(PEER, '@t')",
        "send(PEER, 't', object())",
        "monitor('name')",
        "unmonitor(0)",
        "unmonitor(True)",
        "unmonitor(1, flush='no')",
        "set_options(trap_links='false')",
        "set_options(coalesce_sends='no')",
        "set_options(coalesce_sends=True, trap_links=1)",
        "link(None)",
        "cancel(PEER, grace='soon')",
        "terminate('x')",
        "spawn(1, 'h')",
        "spawn('e', 'h', object())",
        "spawn('\\ud800', 'h')",
        "registry.register('{x}')",
        "registry.lookup('')",
        "receive(timeout='never')",
    ],
)
def test_mistakes_raise_invalid_and_say_nothing(puppet: Puppet, call: str) -> None:
    if call.startswith("spawn('\\ud800'"):
        call = "spawn(chr(0xd800), 'h')"
    kind, _ = puppet.do(f"process.{call}")
    assert kind == "Invalid"
    assert puppet.worker.said == []


def test_sending(puppet: Puppet) -> None:
    # S6, S8
    worker = puppet.worker
    clients = [connection(1), connection(2), connection(3, gateway=9)]
    assert puppet.do(f"process.send({clients} + [PEER], 'ws.send', {{'data': 'hi'}})") is None
    assert worker.expect(wire.ClientSend) == wire.ClientSend((1, 2), "hi")
    assert worker.expect(wire.Send, "ws.send").destinations == (PEER,)
    puppet.ask("process.send(['room', 'hall'], 'topic', 1)")
    worker.answer(wire.Lookup, PEER)
    worker.answer(wire.Lookup, connection(4))
    assert worker.expect(wire.Send, "topic") == wire.Send((PEER,), "topic", packed(1))
    assert worker.expect(wire.ClientSend) == wire.ClientSend((4,), '{"topic":"topic","data":1}')
    assert puppet.answer() is None
    puppet.ask("process.send(['room', PEER], 'topic', 1)")
    worker.answer(wire.Lookup)
    kind, text = puppet.answer()
    assert (kind, "'room'" in text) == ("NotFound", True)
    assert worker.said == []


def test_cancel_and_terminate(puppet: Puppet) -> None:
    # S29, S30
    worker = puppet.worker
    puppet.do("process.cancel(PEER, grace='1s')")
    assert worker.expect(wire.Cancel) == wire.Cancel(PEER, 1000)
    puppet.do(f"process.cancel('{connection(1)}')")
    assert worker.expect(wire.ClientCancel) == wire.ClientCancel((1,), None)
    puppet.do("process.terminate(PEER)")
    assert worker.expect(wire.Terminate) == wire.Terminate(PEER)
    puppet.do(f"process.terminate('{connection(1)}')")
    assert worker.expect(wire.ClientTerminate) == wire.ClientTerminate((1,))
    assert worker.said == []


def test_events_and_the_observed_dead(puppet: Puppet, lab: Lab) -> None:
    # S8
    worker = puppet.worker
    dead = lab.pid(77)
    other = lab.pid(78)
    worker.tell(
        wire.Exit(3, dead, WireReason(NORMAL, "", packed({"a": 1}), None, None), None),
        wire.CancelSignal(PEER, None),
        wire.CancelSignal(PEER, 5000),
        wire.LinkDown(other, KILLED, None),
    )
    assert puppet.do(f"process.send('{dead}', 'topic')") is None  # not observed yet
    worker.expect(wire.Send, "topic")
    assert puppet.do("process.events().receive(timeout=5)") == ["Exit", dead, "normal", {"a": 1}, 3]
    assert puppet.do("process.receive(timeout='5s')") == ["Cancel", PEER, "cancelled: asked to end", None, None]
    assert puppet.do(f"process.send('{dead}', 'topic')")[0] == "NotFound"
    assert puppet.do(f"process.send(['{dead}'], 'topic')") is None
    assert puppet.do("process.receive(0)") == ["LinkDown", other, "killed", None, None]
    assert puppet.do("process.receive(timeout=0)")[0] == "Timeout"
    assert puppet.do("process.events().receive(timeout='10ms')")[0] == "Timeout"


def test_removed_monitors_stay_silent(puppet: Puppet, lab: Lab) -> None:
    # S21: what is under way when it is removed is dropped, what was queued before stays
    worker, dead = puppet.worker, lab.pid(77)
    for flush in (False, True):
        worker.tell(wire.Exit(1, dead, KILLED, None))
        puppet.ask(f"process.unmonitor(1, flush={flush})")
        request = worker.expect(wire.Unmonitor)
        worker.tell(wire.Exit(1, dead, KILLED, None), wire.Reply(request.request, None))
        assert puppet.answer() is None
        if not flush:
            assert puppet.do("process.receive(0)")[:2] == ["Exit", dead]
        assert puppet.do("process.receive(0)")[0] == "Timeout"


def test_the_exit_of_a_connection_waits_for_its_last_words(puppet: Puppet) -> None:
    # S14, S45
    worker, client = puppet.worker, connection(1)
    worker.tell(wire.Exit(1, client, KILLED, wire.Mark(1, 3)))
    assert puppet.do("process.events().receive(timeout=0)")[0] == "Timeout"
    worker.serve(wire.Join(1, client, "ws.message", packed({"u": 1}), False), wire.ClientMessage(1, "last"))
    assert puppet.do("process.events().receive(timeout=0.02)")[0] == "Timeout"
    puppet.ask("process.events().receive(timeout=10)")
    worker.serve(wire.Leave(1, "client_closed", 1000))
    assert puppet.answer()[:2] == ["Exit", client]
    assert puppet.do("[message.topic for message in mail]") == ["ws.join", "ws.message", "ws.leave"]
    assert puppet.do("mail[1].payload") == {"client_pid": client, "type": "text", "data": "last", "metadata": {"u": 1}}


def test_a_new_gateway(puppet: Puppet) -> None:
    # S41: the old channel is read to its end, its connections leave, then their exits come
    worker, client = puppet.worker, connection(1)
    worker.serve(wire.Join(1, client, "ws.message", b"", False))
    worker.tell(wire.Exit(1, client, KILLED, wire.Mark(1, 99)))
    assert puppet.do("process.events().receive(timeout=0.01)")[0] == "Timeout"
    # The last words of the old gateway, and word of the new one, are there at once.
    os.kill(worker.os_pid, signal.SIGSTOP)
    wait_until(lambda: psutil.Process(worker.os_pid).status() == psutil.STATUS_STOPPED)
    worker.data.send(wire.ClientMessage(1, "late"))
    worker.data.flush()
    old = worker.replace_gateway(2)
    os.kill(worker.os_pid, signal.SIGCONT)
    assert puppet.do("process.events().receive(timeout=5)")[:2] == ["Exit", client]
    assert puppet.do("[message.topic for message in mail]") == ["ws.join", "ws.message", "ws.leave"]
    expected = {"client_pid": client, "reason": "gateway_lost", "code": None, "metadata": {}}
    assert puppet.do("mail[2].payload") == expected
    assert puppet.do(f"process.send(['{connection(1)}', '{connection(5, 2)}'], 'ws.send', {{'data': 'x'}})") is None
    assert worker.expect(wire.ClientSend) == wire.ClientSend((5,), "x")
    old.close()
    worker.data.close()  # the gateway dies: no error, and connections leave at once
    assert puppet.do(f"process.send('{connection(5, 2)}', 'ws.send', {{'data': 'x'}})") is None


@pytest.mark.parametrize("colour", ["", "async "])
def test_unread_clients_are_held_back(lab: Lab, colour: str) -> None:
    # S10: the library stops reading data, and goes on when it has been drained; control is read all the while
    wait = "await " if colour else ""
    body = f"""
from wsrelay.workers import process
{colour}def main(total):
    {wait}process.events().receive()
    sizes = set()
    for _ in range(total):
        message = {wait}process.inbox().receive()
        sizes.add(len(message.payload.get("data", "")))
    {wait}process.send("{PEER}", "sizes", [sorted(sizes)])
"""
    total, size = 200, 32 << 10
    with lab.actor(body, "main", total + 1) as worker:
        worker.data.send(wire.Join(1, connection(1), "ws.message", b"", False))
        for _ in range(total):
            worker.data.send(wire.ClientMessage(1, "x" * size))
        pending = -1
        while worker.data.pending != pending:
            pending = worker.data.pending
            worker.data.flush()
            worker._read(0.1)
        assert worker.data.pending > total * size * 2 // 3
        assert worker.wait_status(0) is None
        worker.tell(wire.CancelSignal(PEER, None))
        worker._flush(worker.data)
        assert worker.message("sizes")[0] == [0, size]
        assert worker.end() == Ended("cancelled", 0)


def test_mail_over_the_bound_ends_the_process(lab: Lab, source: str) -> None:
    # S10
    for method in ("puppet", "async_puppet"):
        with lab.start(lab.fork(), source, method, mailbox=10_000) as worker:
            puppet = Puppet(worker)
            puppet.ask("process.monitor(PEER)")
            worker.expect(wire.Monitor)
            worker.tell(*[wire.Deliver(PEER, "topic", bytes(1000))] * 20)
            ended = worker.end()
            assert ended.code == 1
            assert worker.report.kind == "limit:mailbox"


def test_the_wrong_colour_is_named(lab: Lab) -> None:
    with lab.actor("from wsrelay.workers import process\nasync def main():\n for _ in process.inbox(): pass") as worker:
        assert "async for" in (worker.end().reason or "")
    code = "from wsrelay.workers import process\nfrom wsrelay.workers import http\ndef main(): http.request()"
    with lab.actor(code) as worker:
        assert "function.python" in (worker.end().reason or "")


def test_what_was_sent_has_left(lab: Lab) -> None:
    # S7
    for body in (
        "def main():\n for n in range(500): process.send(PEER, 'n', [n, 'x' * 5000])\n os.kill(os.getpid(), 9)",
        "async def main():\n for n in range(500): await process.send(PEER, 'n', [n, 'x' * 5000])\n os.kill(os.getpid(), 9)",
        "async def main():\n for n in range(500): process.send(PEER, 'n', [n, 'x' * 5000])",
    ):
        with lab.actor(f"import os\nfrom wsrelay.workers import process\nPEER = '{PEER}'\n{body}") as worker:
            worker.end()
            sends = [record for record in worker.said if isinstance(record, wire.Send)]
            assert [msgpack.unpackb(record.payload)[0] for record in sends] == list(range(500))


def test_terminate_falls_back_when_the_data_channel_is_blocked(lab: Lab) -> None:
    # S30
    for colour, wait in (("", ""), ("async ", "await ")):
        body = f"""
import asyncio, threading
from wsrelay.workers import process
def fill():
    process.send("{connection(1)}", "ws.send", {{"data": "x" * 3_000_000}})
{colour}def main():
    thread = threading.Thread(target=fill, daemon=True)
    thread.start()
    thread.join(0.2)
    {wait}process.terminate("{connection(2)}")
    {wait}process.receive()
"""
        with lab.actor(body) as worker:
            data, worker.data = worker.data, worker.control  # nobody reads the data channel
            assert worker.expect(wire.Terminate) == wire.Terminate(connection(2))
            worker.data = data
            assert worker.expect(wire.ClientSend).connections == (1,)
            assert worker.expect(wire.ClientTerminate).connections == (2,)


def test_outside_of_a_worker() -> None:
    from wsrelay.workers import http, process

    for call in (process.pid, process.receive, http.request, http.response):
        with pytest.raises(process.ProcessError):
            call()
