"""Puppets: real actors that a test moves by hand, each from its own WebSocket connection.

    with running_runtime(tmp_path, PUPPET_ENTRIES, {"puppet.py": PUPPET_SOURCE}) as runtime:
        with Puppet(runtime) as one, Puppet(runtime) as two:
            ref = one.do("process.monitor(other)", other=two.pid)

The code runs in the actor, in one namespace that lasts as long as it does; the value of an expression comes back as JSON.
"""

from __future__ import annotations

import json
from types import TracebackType
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from .runtime import Runtime, actor, application, endpoint

PUPPET_SOURCE = '''
    """Actors that do what their client says."""

    import ctypes, json, os, signal, sys
    from wsrelay.workers import http, process

    HOST = "app:processes"

    def open_puppet():
        query = http.request().query
        http.response().relay_to(query("to") or process.spawn("app:puppet", query("host") or HOST))

    def show(value):
        match value:
            case process.Exit(sender, ref, reason):
                return {"event": "exit", "sender": sender, "ref": ref, **show(reason)}
            case process.LinkDown(sender, reason):
                return {"event": "link_down", "sender": sender, **show(reason)}
            case process.Cancel(sender):
                return {"event": "cancel", "sender": sender}
            case process.Message(topic, payload, sender):
                return {"topic": topic, "payload": payload, "sender": sender}
            case process.Reason():
                return {"kind": value.kind, "text": str(value), "origin": value.origin, "clean": value.clean}
        return repr(value)

    def run(code, names):
        try:
            try:
                compiled = compile(code, "puppet", "eval")
            except SyntaxError:
                exec(code, names)
                return {"value": None}
            return {"value": eval(compiled, names)}
        except Exception as error:
            return {"error": type(error).__name__, "message": str(error), "pid": getattr(error, "pid", None)}

    def puppet(client=None):
        names = NAMES
        names.update(globals())
        for message in process.inbox():
            if message.topic == "ws.join":
                client = names["client"] = message.payload["client_pid"]
                answer = {"pid": process.pid(), "client": client, "os_pid": os.getpid()}
            elif message.topic == "ws.message":
                order = json.loads(message.payload["data"])
                names.update(order["names"])
                answer = run(order["code"], names)
            else:
                names.setdefault("mail", []).append(message)
                continue
            process.send(client, "ws.send", {"data": json.dumps(answer, default=show)})

    def take(count):
        """The payloads of the next messages, those that came before this order first."""
        mail = NAMES.setdefault("mail", [])
        while len(mail) < count:
            mail.append(process.inbox().receive(timeout=10))
        taken, mail[:] = mail[:count], mail[count:]
        return [message.payload for message in taken]

    def channels():
        """The descriptors of this process's channels: control first, then data."""
        found = []
        for name in os.listdir("/proc/self/fd"):
            try:
                if os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
                    found.append(int(name))
            except OSError:
                pass  # the one that listed the directory
        return sorted(found)

    NAMES = {}

    def idle():
        for _ in process.inbox():
            pass

    def finish(value=None):
        return value

    def fail(text="failed"):
        raise ValueError(text)
'''
BROKEN_SOURCE = "import no_such_module\n\ndef broken():\n    pass\n"
PUPPET_ENTRIES = application(
    endpoint("/puppet", "open_puppet", source="file://puppet.py"),
    *(actor(name, source="file://puppet.py") for name in ("puppet", "idle", "finish", "fail")),
    actor("broken", source="file://broken.py"),
)
PUPPET_SOURCES = {"puppet.py": PUPPET_SOURCE, "broken.py": BROKEN_SOURCE}


class PuppetError(Exception):
    """The code raised in the puppet. `kind` is the exception's name there."""

    def __init__(self, answer: dict[str, Any]) -> None:
        super().__init__(f"{answer['error']}: {answer['message']}")
        self.kind = str(answer["error"])
        self.message = str(answer["message"])
        self.pid = answer["pid"]


class Puppet:
    """One actor and the client that moves it."""

    def __init__(self, runtime: Runtime, host: str = "app:processes", to: str = "") -> None:
        """Connect, which spawns the actor on `host`, or to the one with the name `to`."""
        self._context = connect(
            runtime.ws_url(f"/puppet?to={to}" if to else f"/puppet?host={host}"), ping_interval=None
        )
        self.connection: ClientConnection = self._context.__enter__()
        born = json.loads(self.connection.recv(timeout=15))
        self.pid: str = born["pid"]
        self.client_pid: str = born["client"]
        self.os_pid: int = born["os_pid"]

    def order(self, code: str, **names: Any) -> None:
        """Have `code` run, and do not wait for it."""
        self.connection.send(json.dumps({"code": code, "names": names}))

    def answer(self, timeout: float = 15) -> Any:
        """Wait for the value of the last order. Raises PuppetError if it raised."""
        answer = json.loads(self.connection.recv(timeout=timeout))
        if "error" in answer:
            raise PuppetError(answer)
        return answer.get("value")

    def do(self, code: str, **names: Any) -> Any:
        """Run `code` in the actor and return its value, None for statements. Raises PuppetError if it raises."""
        self.order(code, **names)
        return self.answer()

    def event(self) -> dict[str, Any]:
        """Wait for the actor's next event (EXIT, LINK_DOWN, CANCEL)."""
        event: dict[str, Any] = self.do("process.events().receive(timeout=10)")
        return event

    def events_now(self) -> list[dict[str, Any]]:
        """Every event that is already there."""
        self.do(
            "found = []\n"
            "while True:\n"
            "    try:\n"
            "        found.append(process.events().receive(timeout=0))\n"
            "    except process.Timeout:\n"
            "        break\n"
        )
        found: list[dict[str, Any]] = self.do("found")
        return found

    def end(self) -> tuple[int, str]:
        """Wait for the close frame; return its code and reason."""
        while True:
            try:
                self.connection.recv(timeout=15)
            except ConnectionClosed as closed:
                if closed.rcvd is None:
                    raise AssertionError("cut off without a close frame") from closed
                return closed.rcvd.code, closed.rcvd.reason

    def __enter__(self) -> Puppet:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._context.__exit__(kind, error, traceback)
