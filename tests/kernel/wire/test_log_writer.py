"""The thread that writes the log: order, bounds, what it says of what it has dropped, and how a process with one ends."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.waiting import wait_until
from wsrelay.kernel.wire.log_writer import LogWriter, QueuedHandler
from wsrelay.kernel.wire.logs import JournalHandler

GAP = re.compile(rb"gap (\d+)\n")


def render(record: logging.LogRecord) -> bytes:
    """The line that tells of dropped ones."""
    assert isinstance(record.args, tuple)
    return b"gap %d\n" % record.args[0]


class Pipe:
    """A pipe of one page, so that little fills it."""

    def __init__(self) -> None:
        self.reading, self.writing = os.pipe()
        fcntl.fcntl(self.writing, fcntl.F_SETPIPE_SZ, 4096)

    def fill(self) -> None:
        """Until nothing more goes in: by an open file of our own, so that the writer's stays blocking."""
        own = os.open(f"/proc/self/fd/{self.writing}", os.O_WRONLY | os.O_NONBLOCK)
        try:
            while True:
                os.write(own, b"\n" * 4096)
        except BlockingIOError:
            pass
        finally:
            os.close(own)

    def read(self, until: bytes) -> bytes:
        """What comes up to this text, without what it was filled with."""
        data = b""
        while until not in data:
            data += os.read(self.reading, 1 << 16)
        return data.lstrip(b"\n")


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    made = Pipe()
    yield made
    os.close(made.reading)
    os.close(made.writing)


def numbered(data: bytes) -> list[int]:
    return [int(number) for number in re.findall(rb"line (\d+)\n", data)]


def test_lines_keep_their_order(pipe: Pipe) -> None:
    writer = LogWriter(render, pipe.writing)
    for number in range(1000):
        writer.add(b"line %d\n" % number)
    assert numbered(pipe.read(b"line 999\n")) == list(range(1000))
    assert writer.close()


def test_a_line_longer_than_all_that_may_wait_is_written(pipe: Pipe) -> None:
    writer = LogWriter(render, pipe.writing, most_bytes=10)
    writer.add(b"line 1\n" * 10)
    assert writer.flush(30)
    writer.add(b"line 2\n" * 10)
    assert numbered(pipe.read(b"line 2\n" * 10)) == [1] * 10 + [2] * 10
    assert writer.close()


@pytest.mark.parametrize("bounds", [{"most_entries": 100}, {"most_bytes": 1000}])
def test_who_logs_does_not_wait_and_is_told_what_was_dropped(pipe: Pipe, bounds: dict[str, int]) -> None:
    # S10
    pipe.fill()
    writer = LogWriter(render, pipe.writing, **bounds)
    for number in range(1000):
        writer.add(b"line %d\n" % number)
    assert not writer.flush(0)
    data = pipe.read(b"gap ")
    assert writer.flush(30)
    writer.add(b"line 1000\n")
    data += pipe.read(b"line 1000\n")
    assert writer.close()
    [dropped] = map(int, GAP.findall(data))
    before, _, after = data.partition(b"gap ")
    kept = numbered(before)
    assert kept == list(range(len(kept)))
    assert 50 <= len(kept) <= 140
    assert dropped == 1000 - len(kept)
    assert numbered(after) == [1000]


def test_a_slow_reader_has_one_line_for_many_dropped_ones(pipe: Pipe) -> None:
    writer = LogWriter(render, pipe.writing, most_entries=64)
    os.set_blocking(pipe.reading, False)
    data = bytearray()

    def read_some() -> None:
        with contextlib.suppress(BlockingIOError):
            data.extend(os.read(pipe.reading, 2000))

    def read_all() -> bool:
        read_some()
        return writer.flush(0.001)

    for number in range(20_000):
        writer.add(b"line %05d %s\n" % (number, b"x" * 1000))
        if number % 8 == 0:
            read_some()
    wait_until(read_all)
    assert writer.close()
    for _ in range(4):  # what is in the pipe
        read_some()
    gaps = list(map(int, GAP.findall(data)))
    lines = re.findall(rb"line (\d+) x+\n", data)
    assert lines == sorted(lines)
    assert len(lines) + sum(gaps) == 20_000
    assert 1 <= len(gaps) <= len(lines) / 16


def test_what_cannot_be_written_is_told_when_it_can(pipe: Pipe) -> None:
    # a full disk: the descriptor stays, what is behind it changes
    place = os.open("/dev/full", os.O_WRONLY)
    try:
        writer = LogWriter(render, place)
        for number in range(3):
            writer.add(b"line %d\n" % number)
        assert writer.flush(30)
        os.dup2(pipe.writing, place)
        writer.add(b"line 3\n")
        assert pipe.read(b"line 3\n") == b"gap 3\nline 3\n"
        assert writer.close()
    finally:
        os.close(place)


def test_an_open_file_that_somebody_has_made_non_blocking_is_waited_for(pipe: Pipe) -> None:
    pipe.fill()
    os.set_blocking(pipe.writing, False)
    writer = LogWriter(render, pipe.writing)
    writer.add(b"line 1\n")
    assert not writer.flush(0)
    assert numbered(pipe.read(b"line 1\n")) == [1]
    assert writer.close()


def test_a_journal_that_nobody_reads_holds_nobody_up(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journald:
        journald.bind(str(tmp_path / "journal"))
        journal = JournalHandler(journald.getsockname())
        handler = QueuedHandler(journal, LogWriter)
        logger = logging.Logger("test")
        logger.addHandler(handler)
        for number in range(1000):
            logger.error("entry %d", number)
        assert not handler.writer.flush(0)
        journald.settimeout(30)
        came = []
        while len(came) < 1000:
            [number] = re.findall(rb"^MESSAGE=entry (\d+)$", journald.recv(1 << 16), re.MULTILINE)
            came.append(int(number))
        assert came == list(range(1000))
        assert handler.writer.close()
        journal.close()


PROCESS = """
import logging, os, sys
from wsrelay.kernel.wire import log_writer, logs
logs.setup("text", "info")
log_writer.start()
for number in range(1000):
    logging.info("line %d", number)
"""


@pytest.mark.parametrize(
    ("ending", "code"),
    [("", 0), ("sys.exit(3)", 3), ("raise KeyError('lost')", 1), ("log_writer.flush(); os._exit(4)", 4)],
)
def test_no_line_is_lost_at_the_end_of_a_process(ending: str, code: int) -> None:
    ended = subprocess.run([sys.executable, "-c", PROCESS + ending], stderr=subprocess.PIPE, check=False, timeout=60)
    assert numbered(ended.stderr) == list(range(1000))
    assert ended.returncode == code
    assert ended.stderr.endswith(b"KeyError: 'lost'\n") == (code == 1)


@pytest.mark.parametrize("ending", ["", "raise KeyError('lost')", "log_writer.flush(); os._exit(1)"])
def test_a_process_ends_though_nobody_reads(pipe: Pipe, ending: str) -> None:
    pipe.fill()
    with subprocess.Popen([sys.executable, "-c", PROCESS + ending], stderr=pipe.writing) as running:
        try:
            wait_until(lambda: running.poll() is not None, 30.0)
        finally:
            running.kill()


def test_an_entry_of_many_pages_is_written_whole(pipe: Pipe) -> None:
    data = b"".join(b"line %d\n" % number for number in range(100_000))
    writer = LogWriter(render, pipe.writing)
    writer.add(data)
    assert pipe.read(b"line 99999\n") == data
    assert writer.close()
