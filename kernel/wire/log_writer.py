"""The thread that writes a process's log, so that nothing else of it waits for who reads that (S10, invariant 11).

Owns the queue between the two and its bounds, and what happens where they do not suffice: what does not fit is dropped and counted,
and a line in its place says how many there were. Knows nothing of formats: it asks the handler that is there when it starts.

Standard error may be a pipe whose reader stands still, and workers share it, so that anybody may have filled it. Making it
non-blocking would be no way out: that is a property of the open file, which is the workers' and the terminal's too.

For processes that never fork: a child would have the queue and no thread. A host forks, and logs nothing of its own.
"""

from __future__ import annotations

import atexit
import contextlib
import io
import logging
import os
import queue
import select
import signal
import sys
import threading
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol, TextIO, TypeAlias, runtime_checkable

MOST_BYTES: Final = 4 << 20
"""Bytes that wait, unless it is a single entry."""
MOST_ENTRIES: Final = 20_000
"""Entries that wait: the answer to SIGUSR2 is up to 10,000 at once."""
LAST_WORDS: Final = 1.0
"""Seconds that the end of a process waits until all is written."""
_AT_ONCE: Final = select.PIPE_BUF
"""Bytes that are written together: up to here, nobody else's line comes between in a pipe."""
FAULTS: Final = {signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGABRT}


class Entry(NamedTuple):
    """One entry of a log that is not standard error."""

    size: int
    """In bytes."""
    deliver: Callable[[], None]
    """Writes it. Raises OSError."""


class _Gap:
    """Here something was dropped."""


_GAP: Final = _Gap()
Written: TypeAlias = bytes | Entry
_Item: TypeAlias = bytes | Entry | _Gap | threading.Event | None


@runtime_checkable
class Preparing(Protocol):
    """A handler whose entries are made when something is logged, and delivered later."""

    def prepare(self, record: logging.LogRecord) -> Entry:
        """Return the entry of a record."""


class LogWriter:
    """One thread, and what waits for it."""

    def __init__(
        self,
        render: Callable[[logging.LogRecord], Written],
        descriptor: int = 2,
        *,
        most_bytes: int = MOST_BYTES,
        most_entries: int = MOST_ENTRIES,
    ) -> None:
        """Starts the thread: raises RuntimeError if none can be had. `render` makes the line that tells of dropped ones. Lines go to
        `descriptor`, which stays the caller's."""
        self._render = render
        self._descriptor = descriptor
        self._most_bytes = most_bytes
        self._most_entries = most_entries
        # No lock of ours: a destructor that logs may run anywhere, here too. This queue may be entered again.
        self._queue: queue.SimpleQueue[_Item] = queue.SimpleQueue()
        # Each number is changed on one side only: by who adds, under the handler's lock; or by the thread.
        self._added = self._added_bytes = self._dropped = 0
        self._done = self._done_bytes = self._seen = self._lost = 0
        self._full = False
        self._gap_waits = False
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        # What the main thread blocks must come to nobody else; a fault comes to whose it is.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals() - FAULTS)
        try:
            self._thread.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    # --- who logs -----------------------------------------------------------------------------------------------------

    def add(self, entry: Written) -> None:
        """Have it written; or dropped, if the queue is full."""
        size = len(entry) if isinstance(entry, bytes) else entry.size
        waiting, bytes_waiting = self._added - self._done, self._added_bytes - self._done_bytes
        # Once full, it takes nothing until half is written: so one line tells of many.
        share = 2 if self._full else 1
        most_bytes, most_entries = self._most_bytes // share, self._most_entries // share
        self._full = waiting > 0 and (waiting >= most_entries or bytes_waiting + size > most_bytes)
        if not self._full:
            self._added += 1
            self._added_bytes += size
            self._queue.put(entry)
            return
        self._dropped += 1
        if not self._gap_waits:  # the thread takes this back before it looks at the number: none is forgotten
            self._gap_waits = True
            self._queue.put(_GAP)

    def flush(self, timeout: float = LAST_WORDS) -> bool:
        """Wait until what has been added is written, at most this many seconds. Returns whether it is."""
        written = threading.Event()
        self._queue.put(written)
        return written.wait(timeout)

    def close(self, timeout: float = LAST_WORDS) -> bool:
        """The same, and end the thread. One that stands in a write ends with the process."""
        written = self.flush(timeout)
        self._queue.put(None)
        if written:
            self._thread.join(timeout)
        return written

    # --- the thread ---------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        item = self._queue.get()
        while item is not None:
            if isinstance(item, bytes):
                item = self._write_lines(item)
                continue
            if isinstance(item, Entry):
                self._attempt(item, 1)
                self._done_bytes += item.size
                self._done += 1
            elif isinstance(item, threading.Event):
                item.set()
            else:
                self._gap_waits = False
                self._tell()
            item = self._queue.get()

    def _write_lines(self, first: bytes) -> _Item:
        """Write this line, together with those behind it. Returns what is behind them."""
        lines, size = [first], len(first)
        behind: list[_Item] = []
        with contextlib.suppress(queue.Empty):
            while not behind:
                item = self._queue.get_nowait()
                if isinstance(item, bytes) and size + len(item) <= _AT_ONCE:
                    lines.append(item)
                    size += len(item)
                else:
                    behind.append(item)
        self._attempt(b"".join(lines), len(lines))
        self._done_bytes += size
        self._done += len(lines)
        return behind[0] if behind else self._queue.get()

    def _attempt(self, entry: Written, count: int) -> None:
        """Write `count` entries. What cannot be written, to a full disk say, is told of like what was dropped."""
        try:
            if self._lost:
                self._tell()
            self._deliver(entry)
        except OSError:
            self._lost += count

    def _deliver(self, entry: Written) -> None:
        if isinstance(entry, bytes):
            write_all(self._descriptor, entry)
        else:
            entry.deliver()

    def _tell(self) -> None:
        """Write how many have been lost since it was last told."""
        dropped = self._dropped
        self._lost += dropped - self._seen
        self._seen = dropped
        if not self._lost:
            return
        text = "entries of the log were dropped, because they could not be written: %d"
        record = logging.LogRecord("wsrelay", logging.WARNING, __file__, 0, text, (self._lost,), None)
        try:
            self._deliver(self._render(record))
        except OSError:
            return
        self._lost = 0


class QueuedHandler(logging.Handler):
    """Stands in the place of another handler. The text is made at once; it is written by a `LogWriter`."""

    def __init__(
        self, handler: logging.Handler, make: Callable[[Callable[[logging.LogRecord], Written]], LogWriter]
    ) -> None:
        """`make(render)` returns the writer. Raises what it raises."""
        super().__init__(handler.level)
        self._handler = handler
        self.writer = make(self._render)

    def _render(self, record: logging.LogRecord) -> Written:
        if isinstance(self._handler, Preparing):
            return self._handler.prepare(record)
        return f"{self._handler.format(record)}\n".encode(errors="backslashreplace")

    def emit(self, record: logging.LogRecord) -> None:
        """Queue one record."""
        try:
            entry = self._render(record)
        except Exception:
            self.handleError(record)
        else:
            self.writer.add(entry)


class _Stream(io.TextIOBase):
    """In the place of `sys.stderr`: what Python itself has to say waits for nobody either."""

    encoding = "utf-8"
    errors = "backslashreplace"

    def __init__(self, handler: QueuedHandler) -> None:
        self._handler = handler

    def write(self, text: str) -> int:
        """Queue it as it is."""
        self._handler.acquire()
        try:
            self._handler.writer.add(text.encode(errors="backslashreplace"))
        finally:
            self._handler.release()
        return len(text)

    def fileno(self) -> int:
        """That of standard error."""
        return 2

    def writable(self) -> bool:
        """It is."""
        return True


_running: QueuedHandler | None = None


def start() -> None:
    """From here on a thread writes the log of this process, which must not fork any more. Whatever ends it otherwise than by
    `os._exit` or a signal waits up to `LAST_WORDS` for what is queued. Raises RuntimeError if no thread can be had."""
    global _running
    root = logging.getLogger()
    if _running is None:
        _running = QueuedHandler(root.handlers[0], LogWriter)
        root.handlers[0] = _running
        atexit.register(_end, sys.stderr)
        sys.stderr = _Stream(_running)


def flush(timeout: float = LAST_WORDS) -> bool:
    """Wait until what this process has logged is written, at most so many seconds. Returns whether it is."""
    return _running is None or _running.writer.flush(timeout)


def _end(stderr: TextIO) -> None:
    if flush():
        sys.stderr = stderr  # the interpreter's very last words


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of it, however long that takes. Raises OSError."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(descriptor, view) :]
        except BlockingIOError:  # somebody else has made the open file non-blocking
            poll = select.poll()
            poll.register(descriptor, select.POLLOUT)
            poll.poll()
