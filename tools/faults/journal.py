"""Journals for tests: reading those of a run, and the functions with which handlers and clients write their part.

A run's journals are a folder, one file for each process (`kernel.wire.journal`). `read` merges them. A handler notes with the
functions below, which do nothing while journals are off; a test, which is not started by the runtime, notes with a `Book` of
its own in the same folder.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
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
    return sorted(entries, key=_order)


def read_file(path: Path) -> list[Entry]:
    """Read one process's journal. Raises MalformedJournal."""
    return _File(path).read_new()


class _File:
    """One process's journal, as far as it has been read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.offset = 0
        self.role, self.os_pid = "", 0
        self._unpacker = msgpack.Unpacker(use_list=False)
        self._count = 0

    def read_new(self) -> list[Entry]:
        """The records since the last time. Raises MalformedJournal."""
        with self.path.open("rb") as file:
            file.seek(self.offset)
            data = file.read()
        self.offset += len(data)
        self._unpacker.feed(data)
        entries: list[Entry] = []
        while True:
            try:
                line = self._unpacker.unpack()
            except msgpack.OutOfData:
                return entries
            except Exception as error:  # msgpack has no common base for what can be wrong
                raise self._malformed(f"{type(error).__name__}: {error}") from None
            entries.append(self._entry(line))

    def _entry(self, line: Any) -> Entry:
        try:
            time, sequence, name, *fields = line
            record = j.BY_NAME[name](*fields)
            if sequence != self._count + 1:
                raise ValueError(f"record {self._count + 1} has the number {sequence}")
        except (TypeError, ValueError, KeyError) as error:
            raise self._malformed(f"expected [time, sequence, name, fields…] of a known record: {error!r}") from None
        self._count += 1
        if isinstance(record, j.Opened):
            self.role, self.os_pid = record
        return Entry(time / 1e9, self.role, self.os_pid, sequence, record)

    def _malformed(self, problem: str) -> MalformedJournal:
        return MalformedJournal(f"{self.path}: after {self._count} records: {problem}")


class Reader:
    """Reads the journals of a run while it goes on: each time what is new, and forgets the files of processes that are gone."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        """`folder` is that of the run's journals."""
        self._folder = Path(folder)
        self._files: dict[str, _File] = {}

    def read_new(self) -> list[Entry]:
        """The records since the last time, in the order of time. Raises MalformedJournal."""
        with os.scandir(self._folder) as found:
            sizes = {each.name: each.stat().st_size for each in found if each.name.endswith(_journal.SUFFIX)}
        entries: list[Entry] = []
        for name, size in sizes.items():
            file = self._files.get(name) or self._files.setdefault(name, _File(self._folder / name))
            if size > file.offset:
                entries += file.read_new()
        return sorted(entries, key=_order)

    def remove(self, gone: Callable[[str, int], bool]) -> None:
        """Remove the files of those of whom `gone(role, os_pid)` says that they write no more."""
        for name, file in list(self._files.items()):
            if gone(file.role, file.os_pid):
                file.path.unlink()
                del self._files[name]


def _order(entry: Entry) -> tuple[float, int, int]:
    return entry.time, entry.os_pid, entry.sequence


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

    def client_received(self, stream: str, number: int, sender: str = "") -> None:
        """A client has received a message with this number; with `sender`, the process whose `number_sent` to it that was."""
        self._journal.write(j.ClientReceived(stream, number, sender))

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
