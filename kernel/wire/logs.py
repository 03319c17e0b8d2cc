"""How every process of the runtime writes its log: text for people, JSON, or entries of the systemd journal with fields.

Owns the formats, and where each goes: text and JSON to standard error, entries to journald by its native protocol
(https://systemd.io/JOURNAL_NATIVE_PROTOCOL). Each process says once what it is (`setup`, `identify`), and a record may say what
it is about (`about`). Knows nothing of what is logged.

The native protocol and not lines on standard error, because a line there has no fields, and a traceback would be one entry for
each of its lines. It is a page of our own: python-systemd needs a compiler and the headers of systemd.

What is logged may hold what a client has sent: an exception's text does. So no character of it may steer a terminal, and no line
of it may look like the beginning of an entry (CWE-117): control characters are escaped, and further lines are indented.
"""

from __future__ import annotations

import datetime
import errno
import functools
import json
import logging
import os
import socket
import struct
import sys
from collections.abc import Iterable, Mapping
from typing import Any, Final

from .log_writer import Entry

FORMATS: Final = ("auto", "text", "json", "journal")
FORMAT_VARIABLE: Final = "WSRELAY_LOG_FORMAT"
LEVEL_VARIABLE: Final = "WSRELAY_LOG_LEVEL"
JOURNAL: Final = "/run/systemd/journal/socket"
IDENTIFIER: Final = "wsrelay"
_TEXT: Final = "%(asctime)s %(levelname)-7s %(message)s"
_INDENT: Final = "    "
_CONTROLS: Final = (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
"""C0, DEL, C1, the separators of lines and paragraphs, and what changes the direction of writing."""
_ESCAPES: Final = {code: f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" for code in _CONTROLS}
_JSON_ESCAPES: Final = {code: f"\\u{code:04x}" for code in _CONTROLS}
_PATIENCE: Final = 1
"""Seconds that an entry waits for a journald that does not read. Then it is dropped: the runtime is more than its log."""
_ATTRIBUTE: Final = "wsrelay"

_context: dict[str, str] = {}


def about(**fields: object) -> dict[str, dict[str, str]]:
    """Return `extra=` for a record about this: `pid`, `host`, `entry`, `reason`, `connection`, `service`. Empty ones are left out."""
    return {_ATTRIBUTE: {name: str(value) for name, value in fields.items() if value not in (None, "")}}


def identify(**fields: str) -> None:
    """Say what this process is: these fields go with all that it logs from now on."""
    _context.clear()
    _context.update({name: value for name, value in fields.items() if value})


def resolve(format: str, environment: Mapping[str, str]) -> str:
    """Return the format that `auto` stands for: the journal if standard error leads there. Raises OSError if the journal is
    wanted and there is none."""
    if format == "auto":
        return "journal" if _leads_to_journal(2, environment) else "text"
    if format == "journal":
        os.stat(JOURNAL)
    return format


def setup(format: str, level: str) -> None:
    """Log everything from `level` on in this format. `auto` has been resolved."""
    logging.basicConfig(level=level.upper(), handlers=[make_handler(format)], force=True)


def setup_child(environment: Mapping[str, str]) -> None:
    """The same, as the supervisor was told."""
    setup(environment.get(FORMAT_VARIABLE, "text"), environment.get(LEVEL_VARIABLE, "info"))


def setup_worker(environment: Mapping[str, str]) -> None:
    """In a worker the handlers are the user's. What is logged without any, from warnings on, goes where the supervisor was told."""
    handler = make_handler(environment.get(FORMAT_VARIABLE, "text"))
    handler.setLevel(logging.WARNING)
    logging.lastResort = handler


def make_handler(format: str) -> logging.Handler:
    """Return a handler for a format."""
    if format == "journal":
        return JournalHandler()
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if format == "json" else TextFormatter(_TEXT))
    return handler


def fields_of(record: logging.LogRecord) -> dict[str, str]:
    """What a record is about, and who says it."""
    return {**_context, **getattr(record, _ATTRIBUTE, {})}


def escape(line: str) -> str:
    """Return a line with its control characters escaped: `\\x1b`, `\\u2028`, and a line feed too."""
    return line.translate(_ESCAPES)


class TextFormatter(logging.Formatter):
    """A line for each record. Further lines, of a traceback say, are indented, so that they can be no record's first."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the lines."""
        return f"\n{_INDENT}".join(map(escape, super().format(record).split("\n")))


class JsonFormatter(logging.Formatter):
    """One object on one line for each record."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        when = datetime.datetime.fromtimestamp(record.created, datetime.UTC)
        entry: dict[str, Any] = {
            "time": when.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "os_pid": record.process,
            **fields_of(record),
            "message": message_of(record),
        }
        return json.dumps(entry, ensure_ascii=False).translate(_JSON_ESCAPES)


def message_of(record: logging.LogRecord) -> str:
    """The message, and the traceback below it."""
    return _plain.format(record)


_plain = logging.Formatter("%(message)s")
_text = TextFormatter(_TEXT)


class JournalHandler(logging.Handler):
    """Writes entries to journald. A process that was forked from one that has logged opens a socket of its own."""

    def __init__(self, address: str = JOURNAL) -> None:
        super().__init__()
        self._address = address
        self._socket: socket.socket | None = None
        self._os_pid = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Write one entry; if that fails, the text goes to standard error."""
        try:
            prepared = self.prepare(record)
        except Exception:
            self.handleError(record)
            return
        prepared.deliver()

    def prepare(self, record: logging.LogRecord) -> Entry:
        """Make the entry, to be written later. Its text is the record's of now."""
        entry = encode_entry(_entry(record, message_of(record)))
        return Entry(len(entry), functools.partial(self._deliver, entry, _text.format(record)))

    def _deliver(self, entry: bytes, text: str) -> None:
        try:
            self._send(entry)
        except OSError:
            print(text, file=sys.stderr)  # noqa: T201

    def _send(self, entry: bytes) -> None:
        end = self._open()
        try:
            end.sendto(entry, self._address)
        except OSError as problem:
            if problem.errno not in (errno.EMSGSIZE, errno.ENOBUFS):
                raise
            descriptor = os.memfd_create("wsrelay-log", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
            try:
                _write_all(descriptor, entry)
                _seal(descriptor)
                rights = struct.pack("i", descriptor)
                end.sendmsg([b""], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)], 0, self._address)
            finally:
                os.close(descriptor)

    def _open(self) -> socket.socket:
        if self._socket is None or self._os_pid != os.getpid():
            if self._socket is not None:
                self._socket.detach()  # the parent's: its number may be another's here
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", _PATIENCE, 0))
            self._os_pid = os.getpid()
        return self._socket

    def close(self) -> None:
        """Close the socket, if it is this process's."""
        if self._socket is not None and self._os_pid == os.getpid():
            self._socket.close()
        self._socket = None
        super().close()


def _entry(record: logging.LogRecord, message: str) -> Iterable[tuple[str, str]]:
    yield "MESSAGE", message
    yield "PRIORITY", str(_priority(record.levelno))
    yield "SYSLOG_IDENTIFIER", IDENTIFIER
    yield "LOGGER", record.name
    yield "CODE_FILE", record.pathname
    yield "CODE_LINE", str(record.lineno)
    yield "CODE_FUNC", record.funcName or ""
    for name, value in fields_of(record).items():
        yield f"WSRELAY_{name.upper()}", value


def _priority(level: int) -> int:
    """The priority of syslog(3)."""
    for least, priority in ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6)):
        if level >= least:
            return priority
    return 7


def encode_entry(fields: Iterable[tuple[str, str]]) -> bytes:
    """Return an entry in the native protocol. Values with a line feed are written with their length."""
    parts = []
    for name, value in fields:
        data = value.encode(errors="replace")
        if b"\n" in data:
            parts.append(b"%s\n%s%s\n" % (name.encode(), struct.pack("<Q", len(data)), data))
        else:
            parts.append(b"%s=%s\n" % (name.encode(), data))
    return b"".join(parts)


def _leads_to_journal(descriptor: int, environment: Mapping[str, str]) -> bool:
    """Whether this descriptor is the one that JOURNAL_STREAM names: systemd.exec(5)."""
    device, _, inode = environment.get("JOURNAL_STREAM", "").partition(":")
    try:
        status = os.fstat(descriptor)
    except OSError:
        return False
    return (device, inode) == (str(status.st_dev), str(status.st_ino)) and os.path.exists(JOURNAL)


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _seal(descriptor: int) -> None:
    """journald takes only what can change no more."""
    import fcntl

    fcntl.fcntl(
        descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
    )
