"""The load generator: that it counts what the server counts, and that nothing passes for an echo that is none.

It runs as the benchmark starts it, against servers on real sockets that are right, or wrong in one way.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from benchmark.load import compiled
from benchmark.load.generator import load
from benchmark.peers import installation
from support.answering import CONTINUATION, FINAL, TEXT, AnsweringServer, answering, echo, frame, switching

TOOLS = Path(__file__).resolve().parents[2] / "tools"
SECONDS = 0.1
WRONG = 5
"""The number of the message of which something is wrong."""


def closed(server: AnsweringServer, **parameters: Any) -> dict[str, Any]:
    """A closed loop, with 3 connections that have 4 messages of 40 bytes in flight unless the test has others."""
    given = {"size": 40, "connections": 3, "in_flight": 4, "seconds": SECONDS, "warm_up": 0.0, **parameters}
    return load(server, "closed", "/", limit=60, **given)


@pytest.mark.parametrize("in_flight", [1, 4])
def test_a_closed_loop_counts_what_the_server_counts(in_flight: int) -> None:
    """And what is still on its way when the time is over."""
    with answering() as server:
        found = closed(server, in_flight=in_flight)
        server.wait()
        assert server.messages == found["messages"] + 3 * in_flight
        assert server.said_goodbye == 3
    assert found["messages"] > 0
    assert found["seconds"] >= SECONDS


def test_latencies_are_taken_with_one_message_in_flight() -> None:
    """Of all messages that are counted, and so not of the warm-up."""
    with answering() as server:
        found = closed(server, in_flight=1, warm_up=0.05)
        assert sum(found["histogram"].values()) == found["messages"]
        assert 0 < found["p50"] <= found["p99"] <= found["largest"] < 60e6
        assert "p50" not in closed(server)


def test_what_the_generator_spends_is_told() -> None:
    """No more than a processor had in that time."""
    with answering() as server:
        found = closed(server)
    assert 0 < found["load cpu"] * found["messages"] / 1e6 <= found["seconds"] * 1.5 + 0.02


@pytest.mark.parametrize("size", [1, 125, 126, 65535, 65536])
def test_messages_of_every_length_of_head(size: int) -> None:
    with answering() as server:
        assert closed(server, size=size)["messages"] > 0


def test_a_message_that_is_larger_than_the_buffers() -> None:
    """It is written in parts."""
    with answering() as server:
        assert closed(server, size=8 << 20, connections=1, in_flight=1, seconds=2.0)["messages"] > 0


@pytest.mark.parametrize("piece", [1, 3])
def test_an_echo_that_comes_in_pieces_is_one(piece: int) -> None:
    with answering(piece=piece) as server:
        found = closed(server, size=200)
        server.wait()
        assert 0 < found["messages"] <= server.messages


def fragmented(number: int, payload: bytes) -> bytes:
    """In three frames, the second of which is empty; every other message whole."""
    parts = frame(payload[:7], TEXT) + frame(b"", CONTINUATION) + frame(payload[7:], FINAL | CONTINUATION)
    return frame(payload) if number % 2 else parts


@pytest.mark.parametrize("piece", [0, 1])
def test_an_echo_in_fragments_is_one(piece: int) -> None:
    with answering(fragmented, piece=piece) as server:
        found = closed(server)
        server.wait()
        assert 0 < found["messages"] <= server.messages


def changed(payload: bytes, place: int) -> bytes:
    """With one bit of one byte changed."""
    return payload[:place] + bytes([payload[place] ^ 1]) + payload[place + 1 :]


WRONG_ANSWERS = {
    "its first byte": lambda payload: (frame(changed(payload, 0)), "a wrong echo after 5 messages and 0 bytes"),
    "its last byte": lambda payload: (frame(changed(payload, len(payload) - 1)), "a wrong echo after 5 messages"),
    "too short": lambda payload: (frame(payload[:-1]), "a wrong echo after 5 messages: it ends after 39 of 40 bytes"),
    "too long": lambda payload: (frame(payload + b"!"), "a wrong echo: the head of a frame is not of 40 bytes"),
    "twice": lambda payload: (frame(payload) * 2, "a wrong echo after 6 messages"),
    "a fragment": lambda payload: (
        frame(payload[:7], TEXT) + frame(changed(payload, 8)[7:], FINAL),
        "a wrong echo after 5 messages and 7 bytes",
    ),
    "a fragment less": lambda payload: (
        frame(payload[:7], TEXT) + frame(payload[7:20], FINAL),
        "a wrong echo after 5 messages: it ends after 20 of 40 bytes",
    ),
    "another message within": lambda payload: (
        frame(payload[:7], TEXT) + frame(payload),
        "a frame that is no echo, after 5 messages",
    ),
    "binary": lambda payload: (frame(payload, FINAL | 0x2), "a frame that is no echo"),
    "a reserved bit": lambda payload: (frame(payload, FINAL | TEXT | 0x40), "a frame that is no echo"),
    "a ping before it": lambda payload: (frame(b"", FINAL | 0x9) + frame(payload), "a frame that is no echo"),
    "a close frame": lambda payload: (frame(b"\x03\xe8", FINAL | 0x8), "a frame that is no echo"),
    "masked": lambda payload: (b"\x81\xa8\0\0\0\0" + payload, "a wrong echo: the head of a frame"),
    "a longer head": lambda payload: (b"\x81\x7e\0\x28" + payload, "a length in more bytes than it needs"),
}


@pytest.mark.parametrize("wrong", WRONG_ANSWERS)
def test_one_answer_that_is_no_echo_fails_the_run(wrong: str) -> None:
    said = ""

    def answer(number: int, payload: bytes) -> bytes:
        nonlocal said
        if number != WRONG:
            return frame(payload)
        data, said = WRONG_ANSWERS[wrong](payload)
        return data

    with answering(answer) as server, pytest.raises(RuntimeError) as problem:
        closed(server, connections=1, seconds=60.0)
    assert said
    assert said in str(problem.value)
    assert server.name in str(problem.value)


def test_an_answer_that_never_comes_fails_the_run() -> None:
    with answering(lambda number, payload: frame(payload) if number < WRONG else b"") as server:
        with pytest.raises(RuntimeError, match=r"no echo for 0\.3 s"):
            closed(server, seconds=60.0, stalled=0.3)
        with pytest.raises(RuntimeError, match=r"\d echoes are missing 0\.3 s after the last message"):
            load(
                server,
                "opened",
                "/",
                limit=60,
                size=40,
                connections=2,
                rate=1000,
                seconds=0.2,
                warm_up=0.0,
                stalled=0.3,
            )


def test_a_server_that_closes_fails_the_run() -> None:
    with (
        answering(lambda number, payload: frame(payload) if number < WRONG else None) as server,
        pytest.raises(RuntimeError, match=r"the server closed a connection|could not be written"),
    ):
        closed(server, seconds=60.0)


@pytest.mark.parametrize(
    ("respond", "said"),
    [
        (lambda key: b"HTTP/1.1 403 Forbidden\r\n\r\n", 'no upgrade: "HTTP/1.1 403 Forbidden"'),
        (lambda key: switching(key[1:]), 'no upgrade: "HTTP/1.1 101'),
        (lambda key: b"HTTP/1.1 101 Switching", "the server closed the connection during the handshake"),
        (lambda key: b"HTTP/1.1 101 Switching Protocols\r\nx: " + 9000 * b"y", "a head that does not end"),
        (lambda key: switching(key) + frame(b"hello"), "the server spoke first"),
    ],
    ids=["refused", "another key's answer", "half", "endless", "speaks first"],
)
def test_a_handshake_that_is_none_fails_the_run(respond: Any, said: str) -> None:
    def respond_and_end(key: bytes) -> bytes:
        server.end_after_handshake()
        return bytes(respond(key))

    with answering(respond=respond_and_end) as server, pytest.raises(RuntimeError) as problem:
        closed(server)
    assert said in str(problem.value)


def test_an_open_loop_sends_no_more_than_its_rate() -> None:
    with answering() as server:
        found = load(server, "opened", "/", limit=60, size=40, connections=3, rate=500, seconds=0.4, warm_up=0.1)
        server.wait()
        assert 0 < found["messages"] <= 200
        assert found["messages"] <= server.messages <= found["messages"] + 50
        assert sum(found["histogram"].values()) == found["messages"]


def test_the_latency_of_an_open_loop_counts_from_when_a_message_was_due() -> None:
    with answering() as server:
        found = load(server, "opened", "/", limit=60, size=40, connections=3, rate=1, seconds=2.0, warm_up=0.0)
        assert found["messages"] == 2
        assert found["p50"] < 0.9e6, "not from when the one before was due, which was 1 s earlier"


def test_a_broadcast_counts_its_deliveries() -> None:
    with answering(to_all=lambda number: True) as server:
        found = load(
            server, "broadcast", "/", limit=60, size=40, connections=5, in_flight=2, seconds=SECONDS, warm_up=0.0
        )
        server.wait()
        # Those of the first turn, before it measures, and those that were in flight at the end.
        assert 0 < found["messages"] <= 5 * server.messages <= found["messages"] + 5 * 2 + 5 * 2


def test_a_broadcast_goes_on_when_the_slowest_has_it() -> None:
    """One of three gets nothing: no more is sent than what is in flight at first."""
    with answering(to_all=lambda number: number != 1) as server:
        with pytest.raises(RuntimeError, match=r"no delivery for 1 s"):
            load(
                server, "broadcast", "/", limit=60, size=40, connections=3, in_flight=2, seconds=60.0, warm_up=0.0,
                stalled=1.0,
            )  # fmt: skip
        server.wait()
        assert server.messages == 2


@pytest.mark.parametrize("with_echo", [False, True])
def test_connections_are_counted_as_the_server_counts_them(with_echo: bool) -> None:
    with answering(piece=5) as server:
        found = load(server, "connects", "/", limit=60, lanes=3, seconds=SECONDS, warm_up=0.0, echo=with_echo)
        server.wait()
        # Those of the first turn, before it measures, and those that were under way at the end.
        assert 0 < found["messages"] <= server.upgrades <= found["messages"] + 3 + 3
        assert found["messages"] <= server.said_goodbye
        assert sum(found["histogram"].values()) == found["messages"]
        assert (server.messages > 0) == with_echo


def test_a_wrong_first_echo_of_a_connection_fails_the_run() -> None:
    with (
        answering(lambda number, payload: frame(changed(payload, 9))) as server,
        pytest.raises(RuntimeError, match="a wrong echo after 0 messages"),
    ):
        load(server, "connects", "/", limit=60, lanes=3, seconds=60.0, warm_up=0.0, echo=True)


def test_idle_connections_have_echoed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(TOOLS))
    with answering() as server:
        found = load(server, "idle", "/", limit=60, connections=5)
        server.wait()
        assert (found["messages"], server.messages, server.said_goodbye) == (5, 5, 5)
    with (
        answering(lambda number, payload: echo(number, changed(payload, 0))) as server,
        pytest.raises(RuntimeError, match="a wrong echo"),
    ):
        load(server, "idle", "/", limit=60, connections=5)


def test_compressed_echoes_are_inflated_and_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that answers the offer with nothing is told from one that compresses."""
    monkeypatch.setenv("PYTHONPATH", str(TOOLS))
    with answering() as server, pytest.raises(RuntimeError, match="the server does not compress"):
        closed(server, deflate=True)


def test_a_parameter_that_is_missing_or_unknown_is_refused() -> None:
    for given, said in [
        (["closed"], "host is missing"),
        (["closed", "lanes=3"], "host is missing"),
        (["connects", "host=127.0.0.1", "path=/", "port=x"], "port: expected a whole number"),
        (["idle"], "usage"),
        ([], "usage"),
    ]:
        done = subprocess.run([compiled.program(), *given], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (1, "")
        assert said in done.stderr


def test_a_source_that_has_changed_is_compiled_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = shutil.copytree(compiled.SOURCE, tmp_path / "source")
    monkeypatch.setattr(compiled, "SOURCE", source)
    monkeypatch.setattr(compiled, "BUILT", tmp_path / "built")
    first = compiled.program()
    made = first.stat()
    assert compiled.program() == first
    assert first.stat().st_mtime_ns == made.st_mtime_ns
    (source / "frames.c").write_text((source / "frames.c").read_text() + "\n/* the same */\n")
    second = compiled.program()
    assert [file.name for file in (tmp_path / "built").iterdir()] == [second.name]
    assert second != first
    (source / "frames.c").write_text("no C\n")
    with pytest.raises(RuntimeError, match="the load generator does not compile"):
        compiled.program()


def test_without_a_compiler_the_bench_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a process whose PATH has none, with a copy of the tools, in which nothing is compiled yet."""
    copied = shutil.copytree(
        TOOLS / "benchmark", tmp_path / "tools" / "benchmark", ignore=shutil.ignore_patterns("__*__")
    )
    shutil.copy(TOOLS / "benchmark" / "__main__.py", copied)
    shutil.copy(TOOLS / "benchmark" / "load" / "__main__.py", copied / "load")
    environment = {**os.environ, "PATH": str(tmp_path), "PYTHONPATH": str(tmp_path / "tools")}
    command = [sys.executable, "-m", "benchmark", "echo-one", "--quick", "--server", "websockets"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "there is no C compiler" in done.stderr
    assert "apt-get install gcc libc6-dev" in done.stderr
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "gcc libc6-dev" in installation.install_packages()[0]
