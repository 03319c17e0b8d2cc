"""The formats of the log, and the journal's protocol over a real socket."""

from __future__ import annotations

import io
import json
import logging
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsrelay.kernel.wire import logs


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    made = logging.Logger("test")
    yield made
    for handler in made.handlers:
        handler.close()
    logs.identify()


@pytest.fixture
def journald(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
        made.bind(str(tmp_path / "journal"))
        made.settimeout(10)
        yield made


def decode(entry: bytes) -> dict[str, str]:
    """Read an entry as journald does."""
    found = {}
    while entry:
        line, _, rest = entry.partition(b"\n")
        name, separator, value = line.partition(b"=")
        if not separator:
            (size,) = struct.unpack_from("<Q", rest)
            value, rest = rest[8 : 8 + size], rest[8 + size :]
            assert rest[:1] == b"\n"
            rest = rest[1:]
        found[name.decode()] = value.decode()
        entry = rest
    return found


def receive(journald: socket.socket) -> dict[str, str]:
    data, descriptors, _, _ = socket.recv_fds(journald, 1 << 20, 1)
    for descriptor in descriptors:
        os.lseek(descriptor, 0, os.SEEK_SET)  # journald maps it
        with open(descriptor, "rb") as file:
            data = file.read()
    return decode(data)


@given(st.dictionaries(st.from_regex(r"[A-Z]{1,9}", fullmatch=True), st.text(st.characters(exclude_categories=["Cs"]))))
def test_an_entry_is_read_as_it_was_written(fields: dict[str, str]) -> None:
    assert decode(logs.encode_entry(fields.items())) == fields


def test_an_entry_has_fields(logger: logging.Logger, journald: socket.socket) -> None:
    logger.addHandler(logs.JournalHandler(journald.getsockname()))
    logs.identify(host="app:processes", pid="")
    logger.warning("two\nlines %d", 7, extra=logs.about(pid="{a@b|c.s.1}", reason="exit:3", connection=None))
    entry = receive(journald)
    assert entry["MESSAGE"] == "two\nlines 7"
    assert entry["PRIORITY"] == "4"
    assert entry["SYSLOG_IDENTIFIER"] == "wsrelay"
    assert entry["CODE_FILE"] == __file__
    own = {name: value for name, value in entry.items() if name.startswith("WSRELAY")}
    assert own == {"WSRELAY_HOST": "app:processes", "WSRELAY_PID": "{a@b|c.s.1}", "WSRELAY_REASON": "exit:3"}


def test_a_traceback_is_one_entry(logger: logging.Logger, journald: socket.socket) -> None:
    logger.addHandler(logs.JournalHandler(journald.getsockname()))
    try:
        raise KeyError("lost")
    except KeyError:
        logger.exception("it failed")
    message = receive(journald)["MESSAGE"]
    assert message.startswith("it failed\nTraceback")
    assert message.endswith("KeyError: 'lost'")


def test_what_no_datagram_holds_is_passed_in_memory(logger: logging.Logger, journald: socket.socket) -> None:
    logger.addHandler(logs.JournalHandler(journald.getsockname()))
    logger.error("x" * (4 << 20))
    assert receive(journald)["MESSAGE"] == "x" * (4 << 20)


def test_a_forked_process_has_a_socket_of_its_own(logger: logging.Logger, journald: socket.socket) -> None:
    handler = logs.JournalHandler(journald.getsockname())
    logger.addHandler(handler)
    logger.error("parent")
    receive(journald)
    child = os.fork()
    if child == 0:
        os.closerange(3, 1000)
        reader, writer = os.pipe()  # where the parent's socket was
        logger.error("child %s", [reader, writer] != [])
        os._exit(0)
    os.waitpid(child, 0)
    assert receive(journald)["MESSAGE"] == "child True"


def test_without_a_journal_it_goes_to_standard_error(
    logger: logging.Logger, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logger.addHandler(logs.JournalHandler(str(tmp_path / "nobody")))
    logger.error("still said")
    assert capsys.readouterr().err.endswith(" ERROR   still said\n")


CONTROLS = {chr(code) for code in (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029, 0x202E)}


@given(st.text(st.characters() | st.sampled_from(sorted(CONTROLS))), st.booleans())
def test_no_text_can_forge_an_entry_or_steer_a_terminal(text: str, raised: bool) -> None:
    stream = io.StringIO()
    logger, handler = logging.Logger("test"), logs.make_handler("text")
    assert isinstance(handler, logging.StreamHandler)
    handler.setStream(stream)
    logger.addHandler(handler)
    try:
        raise ValueError(text)
    except ValueError:
        logger.warning("it failed: %s", text, exc_info=raised)
    first, *others, end = stream.getvalue().split("\n")
    assert " WARNING it failed: " in first
    assert end == ""
    assert all(line.startswith("    ") for line in others)
    assert not CONTROLS & set("".join([first, *others]))
    readable = "".join(character for character in text if character not in CONTROLS)
    assert not CONTROLS & set(text) <= {"\n"} or readable in "".join([first, *(line[4:] for line in others)])


@given(st.text(st.characters() | st.sampled_from(sorted(CONTROLS))))
def test_json_has_no_control_character(text: str) -> None:
    record = logging.LogRecord("test", logging.ERROR, __file__, 1, "%s", (text,), None)
    line = logs.JsonFormatter().format(record)
    assert not CONTROLS & set(line)
    assert json.loads(line)["message"] == text


def test_json_is_one_line(logger: logging.Logger, capsys: pytest.CaptureFixture[str]) -> None:
    logger.addHandler(logs.make_handler("json"))
    logger.error("two\nlines", extra=logs.about(entry="app:room"))
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    entry = json.loads(line)
    assert (entry["level"], entry["message"], entry["entry"]) == ("error", "two\nlines", "app:room")
    assert entry["time"].endswith("Z")


def test_auto_is_the_journal_only_where_standard_error_leads_there() -> None:
    assert logs.resolve("auto", {}) == "text"
    assert logs.resolve("auto", {"JOURNAL_STREAM": "1:2"}) == "text"
    assert logs.resolve("json", {"JOURNAL_STREAM": "1:2"}) == "json"
