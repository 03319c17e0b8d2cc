"""Each way in which a handler can end: what its client, its watcher and its linked peers learn, and what is left of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from support.runtime import Runtime, actor, application, endpoint, running_runtime
from support.waiting import wait_until
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

APP = """
    import ctypes, json, os, signal, sys
    from wsrelay.workers import http, process

    HOST = "app:processes"

    def note(journal, **what):
        with open(journal, "a") as file:
            file.write(json.dumps(what) + "\\n")

    def open_client():
        journal = http.request().query("journal")
        me = process.pid()
        target = process.spawn("app:target", HOST, journal)
        linked = process.spawn("app:linked", HOST, target, me)
        process.spawn("app:watcher", HOST, target, linked, me, journal)
        for _ in range(2):
            process.inbox().receive(timeout=10)
        http.response().relay_to(target)

    def linked(target, parent):
        process.link(target)
        process.send(parent, "ready")
        for _ in process.inbox():
            pass

    def watcher(target, linked, parent, journal):
        process.set_options(trap_links=True)
        names = {process.monitor(target): "target", process.monitor(linked): "linked"}
        process.link(target)
        process.send(parent, "ready")
        for event in process.events():
            match event:
                case process.Exit(sender, ref, reason):
                    what = names[ref]
                case process.LinkDown(sender, reason):
                    what = "link"
            note(journal, event=what, kind=reason.kind, text=str(reason), clean=reason.clean, value=reason.value,
                 error=reason.error, origin=reason.origin, sender=sender)

    def target(journal):
        for message in process.inbox():
            if message.topic == "ws.message":
                client = message.payload["client_pid"]
                how = message.payload["data"]
                process.send(client, "ws.send", {"type": "text", "data": "last words"})
                return ENDINGS[how](journal)

    def fail(journal):
        raise ValueError("boom")

    def recurse(journal):
        def deeper():
            deeper()
        deeper()

    def overflow_stack(journal):
        sys.setrecursionlimit(10**9)
        callback = None
        @ctypes.CFUNCTYPE(None)
        def callback():
            callback()
        callback()
        os.abort()  # from Python 3.12 on the recursion ends in an error that the callback cannot raise

    def leave_children(journal):
        for daemon in (False, True):
            if os.fork() == 0:
                if daemon:
                    os.setsid()
                    if os.fork() != 0:
                        os._exit(0)
                note(journal, event="child", os_pid=os.getpid())
                while True:
                    signal.pause()
        while sum("child" in line for line in open(journal)) < 2:
            pass
        raise ValueError("left children")

    ENDINGS = {
        "return": lambda journal: {"answer": 42},
        "raise": fail,
        "recursion": recurse,
        "stack overflow": overflow_stack,
        "exit 0": lambda journal: sys.exit(0),
        "exit 3": lambda journal: sys.exit(3),
        "exit text": lambda journal: sys.exit("no reason"),
        "os._exit 0": lambda journal: os._exit(0),
        "os._exit 9": lambda journal: os._exit(9),
        "segfault": lambda journal: ctypes.string_at(0),
        "abort": lambda journal: os.abort(),
        "kill": lambda journal: os.kill(os.getpid(), signal.SIGKILL),
        "terminate itself": lambda journal: (process.terminate(process.pid()), signal.pause()),
        "unpackable": lambda journal: object(),
        "children": leave_children,
    }
"""
ENTRIES = application(endpoint("/open", "open_client"), actor("target"), actor("linked"), actor("watcher"))


class Ending(NamedTuple):
    """What is expected of one ending."""

    how: str
    kind: str
    code: int
    text: str = ""
    """How the reason's short form starts, if it is more than its kind."""


ENDINGS = [
    Ending("return", "normal", 1000),
    Ending("exit 0", "normal", 1000),
    Ending("raise", "exception", 1011, "exception: ValueError: boom"),
    Ending("recursion", "exception", 1011, "exception: RecursionError"),
    Ending("unpackable", "exception", 1011),
    Ending("exit 3", "exit:3", 1011),
    Ending("exit text", "exit:1", 1011),
    Ending("os._exit 0", "exit:0", 1011),
    Ending("os._exit 9", "exit:9", 1011),
    Ending("segfault", "signal:SIGSEGV", 1011),
    Ending("abort", "signal:SIGABRT", 1011),
    Ending("kill", "signal:SIGKILL", 1011),
    Ending("terminate itself", "killed", 1011),
    Ending("children", "exception", 1011),
]


def read(journal: Path) -> list[dict[str, Any]]:
    """What the watcher has noted so far; a line that is being written does not count."""
    text = journal.read_text() if journal.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def end_target(runtime: Runtime, journal: Path, how: str) -> tuple[int, str, str]:
    """Make the target end. Return what its client saw: the close code and reason, and the last message."""
    with connect(runtime.ws_url(f"/open?journal={journal}")) as client:
        client.send(how)
        last_words = client.recv(timeout=15)
        with pytest.raises(ConnectionClosed) as closed:
            client.recv(timeout=15)
    received = closed.value.rcvd
    assert received is not None, "the client was cut off without a close frame"
    return received.code, received.reason, str(last_words)


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    with running_runtime(tmp_path_factory.mktemp("endings"), ENTRIES, {"app.py": APP}) as running:
        yield running


@pytest.mark.parametrize("ending", ENDINGS, ids=lambda ending: ending.how)
def test_the_client_the_watcher_and_the_linked_learn_one_truth(
    runtime: Runtime, tmp_path: Path, ending: Ending
) -> None:
    # S12, S14, S18, S25, S49
    journal = tmp_path / "journal"
    clean = ending.kind == "normal"
    code, text, last_words = end_target(runtime, journal, ending.how)
    assert last_words == "last words"
    assert (code, text) == (ending.code, ending.kind)
    expected = {"target"} if clean else {"target", "link", "linked"}
    wait_until(lambda: {line["event"] for line in read(journal)} >= expected, message=lambda: str(read(journal)))
    events = {line["event"]: line for line in read(journal) if line["event"] != "child"}
    assert set(events) == expected
    assert {line["kind"] for line in events.values()} == {ending.kind}
    assert events["target"]["text"].startswith(ending.text or ending.kind)
    assert events["target"]["clean"] is clean
    assert (events["target"]["error"] is None) is clean  # S18
    assert events["target"]["origin"] is None
    if not clean:
        assert events["linked"]["origin"] == events["target"]["sender"]  # S25
        assert events["link"]["text"] == events["target"]["text"]
    if ending.how == "return":
        assert events["target"]["value"] == {"answer": 42}
    for line in read(journal):
        if line["event"] == "child":  # S16: wherever it moved
            gone = Path(f"/proc/{line['os_pid']}")
            wait_until(lambda gone=gone: not gone.exists(), message=f"{gone} to be swept")  # type: ignore[misc]


def test_a_stack_that_overflows_ends_one_process(runtime: Runtime, tmp_path: Path) -> None:
    # S18: by SIGSEGV on Python 3.11, by SIGABRT where the interpreter catches it
    journal = tmp_path / "journal"
    code, text, _ = end_target(runtime, journal, "stack overflow")
    assert code == 1011
    assert text in {"signal:SIGSEGV", "signal:SIGABRT"}
    code, text, _ = end_target(runtime, tmp_path / "other", "return")
    assert (code, text) == (1000, "normal")
