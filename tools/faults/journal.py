"""Journals for tests: reading those of a run, and the functions with which handlers and clients write their part.

A run's journals are a folder, one file for each process (`kernel.wire.journal`). `read` merges them. A handler notes with the
functions below, which do nothing while journals are off; a test, which is not started by the runtime, notes with a `Book` of
its own in the same folder.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgpack

from ...kernel.wire import journal as _journal
from ...kernel.wire import journal_records as j
from ...workers import process
from .entry import Entry

VARIABLE = _journal.VARIABLE
"""Set it to a folder in the environment of the runtime."""


class MalformedJournal(ValueError):
    """A file that is no journal; the message says which, and what was expected."""


def read(folder: str | os.PathLike[str]) -> list[Entry]:
    """Read and merge every journal in a folder, in the order of time; the records of one process stay in theirs.

    A record that is cut off at the end of a file is left out: its writer was killed. Raises MalformedJournal.
    """
    entries: list[Entry] = []
    for path in sorted(Path(folder).glob(f"*{_journal.SUFFIX}")):
        entries += read_file(path)
    return sorted(entries, key=lambda entry: (entry.time, entry.os_pid, entry.sequence))


def read_file(path: Path) -> list[Entry]:
    """Read one process's journal. Raises MalformedJournal."""
    unpacker = msgpack.Unpacker(use_list=False)
    unpacker.feed(path.read_bytes())
    entries: list[Entry] = []
    role, os_pid = "", 0
    while True:
        try:
            line = unpacker.unpack()
        except msgpack.OutOfData:
            return entries
        except Exception as error:  # msgpack has no common base for what can be wrong
            raise MalformedJournal(f"{path}: after {len(entries)} records: {type(error).__name__}: {error}") from None
        try:
            time, sequence, name, *fields = line
            record = j.BY_NAME[name](*fields)
            if sequence != len(entries) + 1:
                raise ValueError(f"record {len(entries) + 1} has the number {sequence}")
        except (TypeError, ValueError, KeyError) as error:
            problem = f"expected [time, sequence, name, fields…] of a known record: {error!r}"
            raise MalformedJournal(f"{path}: after {len(entries)} records: {problem}") from None
        if isinstance(record, j.Opened):
            role, os_pid = record
        entries.append(Entry(time / 1e9, role, os_pid, sequence, record))


def records(entries: Iterable[Entry]) -> list[tuple[Any, ...]]:
    """The records alone."""
    return [entry.record for entry in entries]


# --- in a handler -----------------------------------------------------------------------------------------------------


def note(what: str, number: int = 0) -> None:
    """Put a line into the story of this process."""
    if _journal.ON:
        _journal.write(j.Note(process.pid(), what, number))


def number_sent(to: str, number: int) -> None:
    """This handler is about to send the `number`-th item of its stream to `to`, from 1."""
    if _journal.ON:
        _journal.write(j.NumberSent(process.pid(), str(to), number))


def number_received(sender: str, number: int, stream: str = "") -> None:
    """This handler has received the `number`-th item of a stream: that of the process `sender`, or of the client that calls
    itself `stream` and whose PID is `sender`."""
    if _journal.ON:
        _journal.write(j.NumberReceived(process.pid(), str(sender), stream, number))


# --- in a test --------------------------------------------------------------------------------------------------------


class Book:
    """The journal of a test: what its clients do and see, the faults that it injects, and what it measures. Any thread may
    write; a `with` closes it."""

    def __init__(self, folder: str | os.PathLike[str], role: str = "test") -> None:
        """`folder` is that of the run's journals. Raises OSError."""
        self._journal = _journal.Journal(folder, role)

    def __enter__(self) -> Book:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._journal.close()

    def client_opened(self, stream: str) -> None:
        """A client's handshake is complete; `stream` is its name, unique in the run."""
        self._journal.write(j.ClientOpened(stream))

    def client_sent(self, stream: str, number: int) -> None:
        """A client is about to send the `number`-th item of its stream, from 1."""
        self._journal.write(j.ClientSent(stream, number))

    def client_received(self, stream: str, number: int) -> None:
        """A client has received a message with this number."""
        self._journal.write(j.ClientReceived(stream, number))

    def client_closed(self, stream: str, code: int) -> None:
        """A client's line has ended: the code of the server's Close frame, 1005 for an empty one, 1006 without one."""
        self._journal.write(j.ClientClosed(stream, code))

    def client_cut(self, stream: str) -> None:
        """The test is about to cut a client's line, or lets it read no more."""
        self._journal.write(j.ClientCut(stream))

    def fault(self, fault: str, os_pid: int = 0) -> None:
        """The test is about to inject a fault."""
        self._journal.write(j.FaultInjected(fault, os_pid))

    def sample(self, what: str, whose: str, phase: str, value: float) -> None:
        """A measurement. `baseline` and `end` are compared, and `undisturbed` and `disturbed` (invariants 15 and 11)."""
        self._journal.write(j.Sample(what, whose, phase, float(value)))

    def bound(self, what: str, whose: str, value: float) -> None:
        """What samples may be at most, in any phase."""
        self._journal.write(j.Bound(what, whose, float(value)))

    def left_behind(self, what: str, os_pid: int = 0) -> None:
        """Something of the runtime was still there after its end."""
        self._journal.write(j.LeftBehind(what, os_pid))
