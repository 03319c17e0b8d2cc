"""Handing a connection on, under a numbered stream (S47, S48, invariant 13)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.runtime import actor, application, endpoint, running_runtime
from support.waiting import wait_until
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

MESSAGES = 3000
HANDOVERS = 12
WINDOW = 64
"""Messages under way: what a holder may get beyond those after which it hands over."""

APP = """
    import json, os
    from wsrelay.workers import http, process

    HOST = "app:processes"

    def open_stream():
        request = http.request()
        first = process.spawn("app:holder", HOST, request.query("journal"), 0, int(request.query("handovers")))
        http.response().relay_to(first, message_topic="stream.0", metadata={"holder": 0})

    def holder(journal, number, handovers):
        '''Echoes, notes all it gets, hands the connection on after some messages, and ends.'''
        seen = 0
        with open(os.path.join(journal, str(number)), "w") as file:
            for message in process.inbox():
                payload = message.payload
                file.write(json.dumps({"topic": message.topic, "data": payload.get("data"),
                    "metadata": payload["metadata"], "reason": payload.get("reason")}) + "\\n")
                file.flush()
                if message.topic == "ws.leave":
                    return
                if message.topic != f"stream.{number}":
                    continue
                seen += 1
                process.send(payload["client_pid"], "ws.send", {"data": payload["data"]})
                if seen == 100 and number < handovers:
                    heir = process.spawn("app:holder", HOST, journal, number + 1, handovers)
                    process.send(payload["client_pid"], "ws.control", {
                        "target_pid": heir, "message_topic": f"stream.{number + 1}", "metadata": {"holder": number + 1}})

    def open_failing():
        http.response().relay_to(process.spawn("app:failing", HOST))

    def failing():
        '''Tries to hand the connection to a process that is dead.'''
        for message in process.inbox():
            if message.topic == "ws.message" and message.payload["data"] == "transfer":
                dead, ref = process.spawn_monitored("app:ended", HOST)
                process.events().receive(timeout=10)
                process.send(message.payload["client_pid"], "ws.control", {"target_pid": DEAD or dead})
            elif message.topic == "ws.message":
                process.send(message.payload["client_pid"], "ws.send", {"data": message.payload["data"]})
            elif message.topic == "ws.control_error":
                process.send(message.payload["client_pid"], "error", message.payload)

    DEAD = None

    def ended():
        pass

    def open_leaver():
        http.response().relay_to(process.spawn("app:leaver", HOST, http.request().query("to")))

    def leaver(to):
        '''The commonest hand-over: send ws.control, then return.'''
        for message in process.inbox():
            if message.topic == "ws.message":
                target = process.spawn("app:echo", HOST) if to == "echo" else "no.such.name"
                process.send(message.payload["client_pid"], "ws.control", {"target_pid": target})
                if to == "raise":
                    raise ValueError("left in anger")
                return

    def echo():
        for message in process.inbox():
            if message.topic == "ws.join":
                process.send(message.payload["client_pid"], "ws.send", {"data": "here"})
            elif message.topic == "ws.message":
                process.send(message.payload["client_pid"], "ws.send", {"data": "echo " + message.payload["data"]})
"""
ENTRIES = application(
    endpoint("/stream", "open_stream"),
    endpoint("/failing", "open_failing"),
    endpoint("/leaver", "open_leaver"),
    *(actor(name) for name in ("holder", "failing", "ended", "leaver", "echo")),
)


def test_a_numbered_stream_is_partitioned_by_transfers(tmp_path: Path) -> None:
    # S45, S46, S47
    journal = tmp_path / "journal"
    journal.mkdir()
    with running_runtime(tmp_path, ENTRIES, {"app.py": APP}) as runtime:
        with connect(runtime.ws_url(f"/stream?journal={journal}&handovers={HANDOVERS}")) as client:
            echoed: list[str] = []
            for number in range(MESSAGES):
                client.send(str(number))
                if number >= WINDOW:
                    echoed.append(str(client.recv(timeout=30)))
            echoed += [str(client.recv(timeout=30)) for _ in range(WINDOW)]
        wait_until(lambda: "ws.leave" in (journal / str(HANDOVERS)).read_text(), message="the last holder's leave")
    # Sends of two processes have no order between them; all that was sent comes, once.
    assert sorted(map(int, echoed)) == list(range(MESSAGES))
    received: list[int] = []
    for number in range(HANDOVERS + 1):
        lines: list[dict[str, Any]] = [json.loads(line) for line in (journal / str(number)).read_text().splitlines()]
        topics = [line["topic"] for line in lines]
        assert topics[0] == "ws.join"
        assert topics[-1] == "ws.leave"
        assert set(topics[1:-1]) == {f"stream.{number}"}
        assert all(line["metadata"] == {"holder": number} for line in lines)
        assert lines[-1]["reason"] == ("transferred" if number < HANDOVERS else "client_closed")
        received += [int(line["data"]) for line in lines[1:-1]]
    assert received == list(range(MESSAGES))


def test_a_transfer_to_a_dead_process_leaves_the_stream_where_it_was(tmp_path: Path) -> None:
    # S48
    with running_runtime(tmp_path, ENTRIES, {"app.py": APP}) as runtime:
        with connect(runtime.ws_url("/failing")) as client:
            client.send("transfer")
            for number in range(100):
                client.send(str(number))
            received = [str(client.recv(timeout=15)) for _ in range(101)]
        echoed = [text for text in received if text.isdigit()]
        assert echoed == [str(number) for number in range(100)]
        error = json.loads(next(text for text in received if not text.isdigit()))
        assert error["topic"] == "error"
        assert set(error["data"]) == {"client_pid", "target_pid", "error"}


def test_a_target_may_hand_over_and_return(tmp_path: Path) -> None:
    # S48: its death waits for the transfer
    with running_runtime(tmp_path, ENTRIES, {"app.py": APP}) as runtime:
        with connect(runtime.ws_url("/leaver?to=echo")) as client:
            client.send("go")
            assert client.recv(timeout=15) == "here"
            for number in range(50):
                client.send(str(number))
            assert [client.recv(timeout=15) for _ in range(50)] == [f"echo {number}" for number in range(50)]
        for how, code in (("nobody", 1000), ("raise", 1011)):
            with connect(runtime.ws_url(f"/leaver?to={how}")) as client:
                client.send("go")
                with pytest.raises(ConnectionClosed):
                    client.recv(timeout=15)
                assert client.close_code == code
