"""Journal files: what is written is read, whatever ends the writer."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import msgpack
import pytest
from wsrelay.gateway.shell.connection import RelayConnection
from wsrelay.gateway.shell.observation import Connection
from wsrelay.kernel.wire import journal as writer
from wsrelay.kernel.wire import journal_records as j
from wsrelay.tools.faults import journal
from wsrelay.workers.shell.observation import WorkerRuntime
from wsrelay.workers.shell.runtime import Runtime


def run_python(folder: Path, source: str) -> int:
    """Run a program that keeps a journal; return its exit status."""
    environment = {**os.environ, journal.VARIABLE: str(folder)}
    return subprocess.run([sys.executable, "-c", source], env=environment, check=False).returncode


def test_without_a_journal_everything_is_wired_as_if_there_were_none() -> None:
    assert not writer.ON
    assert Connection is RelayConnection
    assert WorkerRuntime is Runtime
    writer.write(j.Note("", "nobody reads this", 0))


def test_a_book_is_read_as_it_was_written(tmp_path: Path) -> None:
    with journal.Book(tmp_path, "client") as book:
        book.client_opened("s")
        book.client_sent("s", 1)
        book.client_received("s", 1)
        book.client_cut("s")
        book.client_closed("s", 1006)
        book.fault("SIGKILL", 7)
        book.sample("latency", "echo", "baseline", 1)
        book.bound("latency", "echo", 2)
        book.left_behind("sleep", 8)
    entries = journal.read(tmp_path)
    assert journal.records(entries) == [
        j.Opened("client", os.getpid()),
        j.ClientOpened("s"),
        j.ClientSent("s", 1),
        j.ClientReceived("s", 1),
        j.ClientCut("s"),
        j.ClientClosed("s", 1006),
        j.FaultInjected("SIGKILL", 7),
        j.Sample("latency", "echo", "baseline", 1.0),
        j.Bound("latency", "echo", 2.0),
        j.LeftBehind("sleep", 8),
    ]
    assert [entry.sequence for entry in entries] == list(range(1, 11))
    assert {entry.role for entry in entries} == {"client"}


def test_every_process_has_a_file_of_its_own(tmp_path: Path) -> None:
    source = """
import os
from wsrelay.kernel.wire import journal, journal_records as j
journal.set_role("parent")
journal.write(j.Note("", "before", 1))
if os.fork() == 0:
    journal.set_role("child")
    journal.write(j.Note("", "child", 2))
    os._exit(0)
os.wait()
journal.write(j.Note("", "after", 3))
"""
    assert run_python(tmp_path, source) == 0
    entries = journal.read(tmp_path)
    notes = {(entry.role, entry.record.what) for entry in entries if isinstance(entry.record, j.Note)}
    assert notes == {("parent", "before"), ("child", "child"), ("parent", "after")}
    assert len(list(tmp_path.iterdir())) == 2


def test_what_is_written_survives_sigkill(tmp_path: Path) -> None:
    source = """
import os, signal
from wsrelay.kernel.wire import journal, journal_records as j
for number in range(1000):
    journal.write(j.Note("", "n", number))
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert run_python(tmp_path, source) == -signal.SIGKILL
    numbers = [record.number for record in journal.records(journal.read(tmp_path)) if isinstance(record, j.Note)]
    assert numbers == list(range(1000))


def test_a_record_that_is_cut_off_is_left_out(tmp_path: Path) -> None:
    with journal.Book(tmp_path) as book:
        book.client_opened("a")
    [path] = tmp_path.iterdir()
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        assert len(journal.read(tmp_path)) < 2


@pytest.mark.parametrize(
    "line",
    [
        b"\xc1",
        msgpack.packb("text"),
        msgpack.packb([1, 1, "NoSuchRecord"]),
        msgpack.packb([1, 1, "Note", "too few"]),
        msgpack.packb([1, 7, "Note", "", "out of sequence", 1]),
    ],
)
def test_what_is_no_journal_is_said_to_be_none(tmp_path: Path, line: bytes) -> None:
    (tmp_path / "bad.journal").write_bytes(line)
    with pytest.raises(journal.MalformedJournal, match=r"bad.journal: after 0 records"):
        journal.read(tmp_path)


def test_every_record_is_in_the_list() -> None:
    made = {one for one in vars(j).values() if isinstance(one, type) and issubclass(one, tuple)}
    assert made == set(j.RECORDS)
    assert len(j.BY_NAME) == len(j.RECORDS)


def test_records_carry_no_payload() -> None:
    assert len(j.BY_NAME) == len(j.RECORDS)
    for record in j.RECORDS:
        assert record.__doc__, record
        for field, annotation in record.__annotations__.items():
            assert annotation != "bytes", f"{record.__name__}.{field}"


def test_a_run_is_read_while_it_goes_on(tmp_path: Path) -> None:
    reader = journal.Reader(tmp_path)
    with journal.Book(tmp_path, "one") as one, journal.Book(tmp_path, "two") as two:
        one.client_sent("s", 1)
        assert len(reader.read_new()) == 3
        two.client_sent("t", 1)
        one.client_sent("s", 2)
        assert journal.records(reader.read_new()) == [j.ClientSent("t", 1), j.ClientSent("s", 2)]
        assert reader.read_new() == []
    reader.remove(lambda role, os_pid: role == "one")
    assert [path.name.partition("-")[0] for path in tmp_path.iterdir()] == ["two"]
    assert reader.read_new() == []


def test_half_a_record_is_read_when_the_rest_has_come(tmp_path: Path) -> None:
    with journal.Book(tmp_path) as book:
        book.fault("SIGKILL", 7)
    [whole] = tmp_path.iterdir()
    data, reader = whole.read_bytes(), journal.Reader(tmp_path)
    whole.write_bytes(data[:-2])
    assert len(reader.read_new()) == 1
    whole.write_bytes(data)
    assert journal.records(reader.read_new()) == [j.FaultInjected("SIGKILL", 7)]
