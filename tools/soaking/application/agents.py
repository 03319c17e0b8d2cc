"""The actors that carry out a random program, and note in the journal what they send and receive.

The conductor speaks with the interpreter, and hands its orders on. An actor does what it is told, counts what it sends to each
process and client, and echoes what its clients send.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections import Counter
from typing import Any

from wsrelay.tools.faults import NoChannel, inject, journal
from wsrelay.tools.faults.kinds import parse
from wsrelay.workers import http, process

HOST = "soak:processes"
LIMITED = "soak:limited"
GROUP = "group"
NAME = "name"


# --- handlers ---------------------------------------------------------------------------------------------------------


def open_control() -> None:
    """The interpreter's own line: to a new conductor, or to one that it knows."""
    known = http.request().query("pid")  # an interpreter whose line the gateway has cut has one already
    http.response().relay_to(known or process.spawn("soak:conductor", HOST))


def open_client() -> None:
    """A numbered client of an actor, or of the service."""
    request, response = http.request(), http.response()
    target, metadata = request.query("target") or "", {"stream": request.query("stream")}
    beats = request.query("beats") or "0"
    if target == "keeper":
        hold = {"for": "10s", "bytes": 1 << 20}
        response.relay_to(target, metadata=metadata, heartbeat_interval=beats, on_exit="hold", hold=hold)
    else:
        response.relay_to(target, metadata=metadata, heartbeat_interval=beats)


def open_plain() -> None:
    """A client that behaves badly gets a process of its own."""
    http.response().relay_to(process.spawn("soak:echo", HOST))


def faulty() -> None:
    """A fault in the handler itself."""
    inject(parse(http.request().query("fault") or ""))


# --- processes --------------------------------------------------------------------------------------------------------


def echo() -> None:
    """Answers each message, and ends with its client."""
    for message in process.inbox():
        if message.topic == "ws.message":
            process.send(message.sender, "ws.send", {"type": "text", "data": message.payload["data"]})
        elif message.topic == "ws.leave":
            return


def task(how: str) -> str:
    """What is executed (S34)."""
    match how:
        case "raise":
            raise ValueError("planned")
        case "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        case "given up":
            process.receive()
    return how


def conductor() -> None:
    """Takes the interpreter's orders, and tells it which process is in which slot."""
    line: str | None = None
    for message in process.inbox():
        match message.topic:
            case "ws.join":
                line = message.sender
                tell(line, "conductor", process.pid())
            case "ws.leave" if line == message.sender:
                line = None
            case "ws.message":
                number, what, *arguments = json.loads(message.payload["data"])
                if what == "end":
                    tell(line, "done", number, None)
                    return
                tell(line, "done", number, conduct(what, *arguments))
            case "born":
                tell(line, "born", *message.payload)


def tell(line: str | None, *what: Any) -> None:
    """Say something to the interpreter."""
    if line is not None:
        process.send(line, "ws.send", {"type": "text", "data": json.dumps(what)})


def conduct(what: str, *arguments: Any) -> Any:
    """Perform one order; the answer goes to the interpreter."""
    if what == "order":
        pid, *order = arguments
        try:
            process.send(pid, "order", order)
        except process.ProcessError as refused:
            return f"refused: {refused}"
    elif what == "spawn":
        slot, how = arguments
        host, name = LIMITED if how == "limited" else HOST, NAME if how == "named" else None
        try:
            return process.spawn("soak:actor", host, slot, how == "trapping", process.pid(), name=name)
        except process.ProcessError as refused:
            return f"refused: {refused}"
    elif what == "terminate":
        process.terminate(arguments[0])
    elif what == "cancel":
        process.cancel(arguments[0], 1.0)
    return None


def actor(slot: int, traps: bool, leader: str, state: list[Any] | None = None) -> None:
    """An actor in a slot; `state` is what its old code had, if it was upgraded."""
    if traps:
        process.set_options(trap_links=True)
    if state is None:
        process.send(leader, "born", [slot, process.pid()])
    Actor([slot, False, leader], state).run()


def keeper(state: list[Any] | None = None) -> None:
    """The service."""
    Actor([], state).run()


class Actor:
    """Carries out orders."""

    def __init__(self, arguments: list[Any], state: list[Any] | None) -> None:
        sent, clients, watches = state or ({}, {}, [])
        self.arguments = arguments
        self.sent: Counter[str] = Counter(sent)
        self.clients: dict[str, str] = dict(clients)
        """A client's stream to its connection, of everybody who has joined."""
        self.watches: list[int] = list(watches)
        self.ended = False

    def run(self) -> None:
        """Until an order, or a Cancel, ends it."""
        while not self.ended:
            match process.receive():
                case process.Message("order", order):
                    self.obey(*order)
                case process.Message("item", number, sender):
                    journal.number_received(sender, number)
                case process.Message("ws.join", payload, sender):
                    self.join(payload["metadata"]["stream"], sender)
                case process.Message("ws.message", payload, sender):
                    stream, number = payload["data"].split()
                    journal.number_received(sender, int(number), stream)
                    self.send_client(sender)
                case process.Cancel():
                    return

    def join(self, stream: str, connection: str) -> None:
        """Know a client; every other one is watched, though it may have gone already."""
        self.clients[stream] = connection
        if stream[-1] in "02468":
            process.monitor(connection)

    def obey(self, what: str, *arguments: Any) -> None:
        """Carry out an order. What the runtime refuses is noted, and no end."""
        try:
            getattr(self, f"do_{what.replace(' ', '_')}")(*arguments)
        except process.ExitError as end:
            journal.note(f"exec ended: {end.reason.kind}")
        except process.ProcessError as refused:
            journal.note(f"refused: {type(refused).__name__}")

    # --- to others ----------------------------------------------------------------------------------------------------

    def do_send(self, other: str) -> None:
        for _ in range(3):
            self.sent[other] += 1
            journal.number_sent(other, self.sent[other])
            try:
                process.send(other, "item", self.sent[other])
            except process.NotFound:
                return

    def do_monitor(self, other: str) -> None:
        process.monitor(other)

    def do_unmonitor(self, other: str) -> None:
        ref = process.monitor(other)
        process.unmonitor(ref)
        process.unmonitor(other, flush=True)

    def do_link(self, other: str) -> None:
        process.link(other)

    def do_unlink(self, other: str) -> None:
        process.unlink(other)

    def do_join(self, other: str | None = None) -> None:
        process.groups.join(GROUP, other)

    def do_cancel(self, other: str) -> None:
        process.cancel(other)

    def do_cancel_with_grace(self, other: str) -> None:
        process.cancel(other, 0.05)

    def do_terminate(self, other: str) -> None:
        process.terminate(other)

    def do_child(self, slot: int, relation: str) -> None:
        spawn = {
            "plain": process.spawn,
            "linked": process.spawn_linked,
            "monitored": process.spawn_monitored,
            "linked and monitored": process.spawn_linked_monitored,
        }[relation]
        spawn("soak:actor", HOST, slot, False, self.arguments[-1])

    # --- by itself ----------------------------------------------------------------------------------------------------

    def do_trap(self) -> None:
        process.set_options(trap_links=True)

    def do_do_not_trap(self) -> None:
        process.set_options(trap_links=False)

    def do_return(self) -> None:
        self.ended = True

    def do_register(self) -> None:
        process.registry.register(NAME)

    def do_unregister(self) -> None:
        process.registry.unregister(NAME)

    def do_look_up(self) -> None:
        process.registry.lookup(NAME)

    def do_leave(self) -> None:
        process.groups.leave(GROUP)

    def do_members(self) -> None:
        process.groups.members(GROUP)

    def do_broadcast(self) -> None:
        for number in range(3):
            process.groups.broadcast(GROUP, "news", number)

    def do_watch(self) -> None:
        _, ref = process.groups.watch(GROUP)
        self.watches.append(ref)

    def do_unwatch(self) -> None:
        if self.watches:
            process.groups.unwatch(self.watches.pop())

    def do_listen(self) -> None:
        """Take some of the items that are there by themselves; the rest waits for `unlisten`."""
        items = process.listen("item")
        with contextlib.suppress(process.Timeout):
            for _ in range(2):
                item = items.receive(timeout=0)
                journal.number_received(item.sender, item.payload)

    def do_unlisten(self) -> None:
        process.unlisten("item")

    def do_exec(self, how: str) -> None:
        process.exec("soak:task", HOST, how, timeout=0.05 if how == "given up" else 10.0)

    def do_upgrade(self) -> None:
        journal.note("upgrades")
        process.upgrade(None, *self.arguments, [dict(self.sent), self.clients, self.watches])

    def do_fault(self, text: str) -> None:
        journal.note(f"fault {text}")
        try:
            inject(parse(text))
        except NoChannel:  # no gateway serves
            journal.note("no fault")

    # --- to clients ---------------------------------------------------------------------------------------------------

    def send_client(self, connection: str) -> None:
        """The next numbered message to a client."""
        self.sent[connection] += 1
        journal.number_sent(connection, self.sent[connection])
        text = f"{self.sent[connection]} {process.pid()}"
        try:
            process.send(connection, "ws.send", {"type": "text", "data": text})
        except process.NotFound:
            return

    def do_transfer(self, stream: str, target: str, returns: bool) -> None:
        connection = self.clients.get(stream)
        if connection is not None:
            process.send(connection, "ws.control", {"target_pid": target, "metadata": {"stream": stream}})
            self.ended = returns

    def do_serve(self, service: str, stream: str) -> None:
        connection = self.clients.get(stream)
        if connection is None:
            return
        match service:
            case "send":
                for _ in range(5):
                    self.send_client(connection)
            case "close":
                process.send(connection, "ws.close", {})
            case "close 4001":
                process.send(connection, "ws.close", {"code": 4001, "reason": "planned"})
            case "cancel":
                process.cancel(connection)
            case "terminate":
                process.terminate(connection)
            case "monitor":
                process.monitor(connection)
            case "link":
                process.link(connection)
            case "take":
                process.send(connection, "ws.control", {"target_pid": process.pid(), "metadata": {"stream": stream}})
