"""Who is disturbed, and who disturbs."""

import contextlib
import json
import os
import signal
import tempfile
import time
from collections import Counter
from typing import Any

from wsrelay.workers import http, process

ECHO = "isolation.echo"
SINK = "isolation.sink"
WATCH = "isolation.watch"


def connect_echo() -> None:
    """All connections to one echo process."""
    relay_to_named(ECHO, "app:echo", "app:quiet")


def connect_sink() -> None:
    """All connections to one process, which will be stopped."""
    relay_to_named(SINK, "app:sink", "app:stopped")


def connect_storm() -> None:
    """Every connection to a process that makes others crash."""
    http.response().relay_to(process.spawn("app:storm", "app:quiet"))


def connect_excess() -> None:
    """Every connection to a process that has others go over their limits."""
    http.response().relay_to(process.spawn("app:excess", "app:quiet"))


def connect_watch() -> None:
    """All connections to one process that watches others."""
    relay_to_named(WATCH, "app:watch", "app:quiet")


def relay_to_named(name: str, entry: str, host: str) -> None:
    """Relay to the process of this name, and start it if there is none."""
    if process.registry.lookup(name) is None:
        with contextlib.suppress(process.AlreadyExists):
            process.spawn(entry, host, name=name)
    http.response().relay_to(name)


def echo() -> None:
    """Send every message back."""
    for message in process.inbox():
        if message.topic == "ws.message":
            payload = message.payload
            process.send(payload["client_pid"], "ws.send", {"type": payload["type"], "data": payload["data"]})


def sink() -> None:
    """Say who this is, and read on."""
    for message in process.inbox():
        if message.topic == "ws.join":
            process.send(message.payload["client_pid"], "ws.send", {"type": "text", "data": str(os.getpid())})


def storm() -> None:
    """Do what the client asks for: `{"rate": CRASHES_A_SECOND, "seconds": SECONDS}`. The answer is what was seen."""
    for message in process.inbox():
        if message.topic == "ws.leave":
            return
        if message.topic == "ws.message":
            answer = json.dumps(crash(**json.loads(message.payload["data"])))
            process.send(message.payload["client_pid"], "ws.send", {"type": "text", "data": answer})


def crash(rate: float, seconds: float) -> dict[str, Any]:
    """Have processes crash at a rate, and wait for the EXIT of each. Returns how often each reason was told."""
    start = time.monotonic()
    reasons: Counter[str] = Counter()
    refs: set[int] = set()
    events = process.events()
    count = round(rate * seconds)

    def take(until: float) -> None:
        with contextlib.suppress(process.Timeout):
            while True:
                event = events.receive(timeout=max(0.0, until - time.monotonic()))
                reasons[event.reason.kind] += 1
                refs.remove(event.ref)

    for number in range(count):
        take(start + number / rate)
        refs.add(process.spawn_monitored("app:crasher", "app:crashing")[1])
    elapsed = time.monotonic() - start
    deadline = time.monotonic() + 30
    while refs and time.monotonic() < deadline:
        take(time.monotonic() + 0.05)
    return {"asked": count, "seconds": elapsed, "reasons": dict(reasons), "missing": len(refs)}


def crasher() -> None:
    """End as if by a fault in C."""
    os.kill(os.getpid(), signal.SIGSEGV)


def excess() -> None:
    """Do what the client asks for: `{"what": EXCESS, "seconds": SECONDS}`. The answer is what was seen."""
    for message in process.inbox():
        if message.topic == "ws.leave":
            return
        if message.topic == "ws.message":
            answer = json.dumps(exceed(**json.loads(message.payload["data"])))
            process.send(message.payload["client_pid"], "ws.send", {"type": "text", "data": answer})


def exceed(what: str, seconds: float) -> dict[str, Any]:
    """Have one process after the other go over a limit, until the time is over. Returns how often each reason was told."""
    start = time.monotonic()
    reasons: Counter[str] = Counter()
    events = process.events()
    while time.monotonic() - start < seconds:
        process.spawn_monitored("app:culprit", "app:limited", what)
        reasons[events.receive(timeout=60.0).reason.kind] += 1
    return {"reasons": dict(reasons), "seconds": time.monotonic() - start}


def watch() -> None:
    """Watch whoever asks for it, and do what a client asks for: `{"seconds": SECONDS}`. The answer is what was seen meanwhile."""
    while True:
        message = process.receive()
        if not isinstance(message, process.Message):
            continue  # who was stopped with the service
        if message.topic == "watch":
            begin_to_watch(message.payload)
        elif message.topic == "ws.message":
            answer = json.dumps(see_off(**json.loads(message.payload["data"])))
            process.send(message.payload["client_pid"], "ws.send", {"type": "text", "data": answer})


def begin_to_watch(pid: str) -> None:
    """Monitor a process, and let it go on."""
    process.monitor(pid)
    process.send(pid, "watched")


def see_off(seconds: float) -> dict[str, Any]:
    """See whoever is watched end, until the time is over. Returns how often each reason was told."""
    start = time.monotonic()
    reasons: Counter[str] = Counter()
    with contextlib.suppress(process.Timeout):
        while True:
            message = process.receive(timeout=max(0.0, start + seconds - time.monotonic()))
            if isinstance(message, process.Exit):
                reasons[message.reason.kind] += 1
            elif message.topic == "watch":
                begin_to_watch(message.payload)
    return {"reasons": dict(reasons), "seconds": time.monotonic() - start}


def repeat_offender(what: str) -> None:
    """A service that uses more and more of something, as soon as it is watched."""
    process.send(WATCH, "watch", process.pid())
    process.receive()
    culprit(what)


def culprit(what: str) -> None:
    """Use more and more of something, and never stop."""
    EXCESSES[what]()


def eat() -> None:
    hoard = []
    while True:
        hoard.append(b"x" * (1 << 20))


def multiply() -> None:
    while True:
        if os.fork() == 0:
            while True:  # children that have no children: the machine, which has no other limit, is to live on
                signal.pause()


def fill() -> None:
    with open(f"{tempfile.gettempdir()}/much", "wb") as file:
        while True:
            file.write(bytes(1 << 20))


def burn() -> None:
    while True:
        pass


EXCESSES = {"memory": eat, "processes": multiply, "disk": fill, "cpu": burn}
