"""An application whose handlers keep journals, and a runtime of it that is checked at its end."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection
from wsrelay.kernel.wire import journal_records as j
from wsrelay.tools.faults import journal
from wsrelay.tools.faults.checker import check, tell
from wsrelay.tools.faults.entry import Entry

from .runtime import Runtime, actor, application, endpoint, running_runtime
from .waiting import wait_until

APP = """
    import contextlib, os, signal
    from wsrelay.tools.faults import journal
    from wsrelay.workers import http, process

    HOST = "app:processes"

    def open_room():
        if not process.registry.lookup("room"):
            process.spawn("app:room", HOST, name="room")
        http.response().relay_to("room")

    def open_handed():
        http.response().relay_to(process.spawn("app:handing", HOST), message_topic="numbers")

    def open_held():
        http.response().relay_to("held", on_exit="hold")

    def numbers(message):
        stream, number = message.payload["data"].split()
        journal.number_received(message.sender, int(number), stream)

    def room():
        '''Takes numbers, and orders.'''
        process.set_options(trap_links=True)
        process.groups.join("rooms", process.pid())
        children, refs = [], {}
        while True:
            match process.receive():
                case process.Message("ws.message", {"data": data}, sender) as message:
                    match data.split():
                        case ["spawn", how]:
                            child, ref = process.spawn_linked_monitored("app:child", HOST, how, process.pid())
                            children.append(child)
                            process.monitor(child)
                            dropped = process.monitor(child)
                            process.unmonitor(dropped)
                            with contextlib.suppress(process.NoProc):  # its host was killed at once
                                process.groups.join("children", child)
                        case ["go"]:
                            for number, child in enumerate(children):
                                journal.number_sent(child, 1)
                                process.send(child, "go", number)
                        case ["terminate"]:
                            victim, _ = process.spawn_monitored("app:child", HOST, "wait", process.pid())
                            process.terminate(victim)
                        case ["look"]:
                            process.registry.lookup("room")
                            process.groups.members("children")
                        case ["upgrade"]:
                            process.upgrade()
                        case ["close"]:
                            process.send(sender, "ws.close", {"code": 4001})
                        case ["die"]:
                            os.kill(os.getpid(), signal.SIGKILL)
                        case ["return"]:
                            return
                        case _:
                            numbers(message)
                case process.Exit(sender=pid, ref=ref):
                    journal.note("exit", ref)

    def child(how, parent):
        grandchild = process.spawn_linked("app:waiting", HOST)
        message = process.inbox().receive()
        journal.number_received(message.sender, 1)
        for number in range(1, 21):
            journal.number_sent(parent, number)
            process.send(parent, "item", b"x" * number * (600 if how == "flood" else 1))
        if how in ("raise", "flood"):
            raise ValueError("planned")
        if how == "kill":
            os.kill(os.getpid(), signal.SIGSEGV)
        if how == "wait":
            process.receive()

    def waiting():
        process.receive()

    def handing():
        '''Hands its client on to another of its kind after five messages, and ends.'''
        seen = 0
        for message in process.inbox():
            if message.topic == "numbers":
                numbers(message)
                seen += 1
                if seen == 5:
                    heir = process.spawn("app:handing", HOST)
                    process.send(message.sender, "ws.control", {"target_pid": heir})
            elif message.topic == "ws.leave":
                return

    def flaky():
        match process.inbox().receive().topic:
            case "raise":
                raise RuntimeError("planned")

    def held():
        for message in process.inbox():
            if message.topic == "ws.message":
                numbers(message)

    def order():
        topic = http.request().query("topic")
        process.send("flaky", topic)
"""

RESTART = {"initial_delay": "200ms", "backoff_factor": 1.5, "jitter": 0.1, "intensity": 5, "period": "60s"}
ENTRIES = application(
    endpoint("/room", "open_room"),
    endpoint("/handed", "open_handed"),
    endpoint("/order", "order"),
    endpoint("/held", "open_held"),
    *(actor(name) for name in ("room", "child", "waiting", "handing", "flaky", "held")),
    {
        "name": "held_service",
        "kind": "process.service",
        "process": "app:held",
        "host": "app:processes",
        "register": "held",
        "lifecycle": {"stop_timeout": "100ms", "restart": RESTART},
    },
    {
        "name": "flaky_service",
        "kind": "process.service",
        "process": "app:flaky",
        "host": "app:processes",
        "register": "flaky",
        "lifecycle": {"stop_timeout": "100ms", "restart": RESTART},
    },
)


class Run:
    """A runtime that keeps journals, and the test's own."""

    def __init__(self, runtime: Runtime, folder: Path, book: journal.Book) -> None:
        self.runtime = runtime
        self.folder = folder
        self.book = book

    def entries(self) -> list[Entry]:
        """What is written so far."""
        return journal.read(self.folder)

    def count(self, kind: type, matches: Callable[..., bool] = lambda record: True) -> int:
        """How many records of a kind there are."""
        return sum(isinstance(entry.record, kind) and matches(entry.record) for entry in self.entries())

    def wait_for(self, kind: type, matches: Callable[..., bool] = lambda record: True, times: int = 1) -> None:
        """Wait until so many records are written."""
        wait_until(lambda: self.count(kind, matches) >= times, 30, lambda: f"{kind.__name__}\n{tell(self.entries())}")

    def send(self, client: ClientConnection, stream: str, numbers: range) -> None:
        """Send items of a stream."""
        for number in numbers:
            self.book.client_sent(stream, number)
            client.send(f"{stream} {number}")

    def closed(self, client: ClientConnection, stream: str) -> int:
        """Wait for a client's end; return and note the code."""
        try:
            while True:
                client.recv(timeout=30)
        except ConnectionClosed as end:
            code = end.rcvd.code if end.rcvd is not None else 1006
        self.book.client_closed(stream, code)
        return code

    def close(self, client: ClientConnection, stream: str) -> None:
        """Close as the client."""
        client.close()
        self.book.client_closed(stream, client.close_code or 1006)

    def born(self, entry: str) -> int:
        """The os_pid of the process of this entry that was spawned last. Waits until it has one."""

        def find() -> int | None:
            entries = self.entries()
            spawned = [one.record for one in entries if isinstance(one.record, j.Spawned)]
            pids = [record.pid for record in spawned if record.entry == entry]
            births = [one.record for one in entries if isinstance(one.record, j.Born)]
            return next((birth.os_pid for birth in births if pids and birth.pid == pids[-1]), None)

        return wait_until(find, 30, f"{entry} to be born") or 0


@contextlib.contextmanager
def journaled_runtime(tmp_path: Path, environment: Mapping[str, str] | None = None) -> Iterator[Run]:
    """Run the application with journals. At the end, when nothing is left of it: no invariant may be violated."""
    folder = tmp_path / "journals"
    folder.mkdir()
    variables = {journal.VARIABLE: str(folder), **(environment or {})}
    with journal.Book(folder) as book:
        with running_runtime(tmp_path, ENTRIES, {"app.py": APP}, environment=variables) as runtime:
            yield Run(runtime, folder, book)
        violations = check(journal.read(folder))
        assert not violations, "\n".join(map(str, violations))
