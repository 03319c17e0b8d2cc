"""The configuration check of `process.service`: every field, its defaults, and each mistake at its place (S36 to S39)."""

from __future__ import annotations

import msgpack
import pytest
from wsrelay.kernel.wire.configuration import Application, Lifecycle, Restart, Service, pack, unpack

from .checking import HOST, check, entries


def test_services() -> None:
    application = check(
        entries(
            """\
            - {name: host, kind: process.host}
            - {name: room, kind: process.python, source: "file://chat.py", method: room}
            - {name: plain, kind: process.service, process: room, host: host}
            - name: full
              kind: process.service
              process: app:room
              host: app:host
              args: [text, 1, -2.5, true, null, [a, {b: [c]}], 2020-01-01, 0x10, ""]
              register: room/1
              lifecycle:
                auto_start: no
                requires: [plain, "other:far"]
                start_timeout: 1s
                stop_timeout: 2s
                stable_threshold: 0
                restart: {type: permanent, initial_delay: 0, max_delay: 3s, backoff_factor: 1.5, jitter: 0, intensity: 0, period: 1m}
            """
        ),
        "version: 1.0\nnamespace: other\nentries: [{name: far, kind: process.service, process: 'app:room', host: 'app:host'}]",
    )
    assert isinstance(application, Application)
    arguments = ["text", 1, -2.5, True, None, ["a", {"b": ["c"]}], "2020-01-01", "0x10", ""]
    restart = Restart("permanent", 0.0, 3.0, 1.5, 0.0, 0, 60.0)
    lifecycle = Lifecycle(False, ("app:plain", "other:far"), 1.0, 2.0, 0.0, restart)
    assert application.services == {
        "app:plain": Service("app:plain", "app:room", "app:host"),
        "app:full": Service("app:full", "app:room", "app:host", msgpack.packb(arguments), "room/1", lifecycle),
        "other:far": Service("other:far", "app:room", "app:host", msgpack.packb([])),
    }
    assert unpack(Application, pack(application)) == application


def test_the_defaults_of_a_service() -> None:
    """As DESIGN.md has them."""
    assert Lifecycle() == Lifecycle(True, (), 10, 10, 5, Restart("transient", 1, 90, 2.0, 0.1, 10, 60))


ROOM = HOST + '- {name: room, kind: process.python, source: "file://chat.py", method: room}\n'


def service(name: str, more: str = "") -> str:
    return f"- {{name: {name}, kind: process.service, process: room, host: host{more and ', '}{more}}}\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("- {name: a, kind: process.service, host: host}", "6:3: missing field process of process.service"),
        ("- {name: a, kind: process.service, process: rom, host: host}",
         "6:45: process: there is no process.python app:rom; did you mean app:room?"),
        ("- {name: a, kind: process.service, process: room, host: room}",
         "6:57: host: app:room is of kind process.python, expected process.host"),
        (service("a", "args: 3"), "6:69: args: expected a list, got 3"),
        (service("a", "args: {b: 3}"), "6:69: args: expected a list, got a mapping"),
        (service("a", "args: [!!python/name:os.system x]"),
         "6:70: unknown tag '!!python/name:os.system', expected a plain value"),
        (service("a", 'args: ["\\ud800"]'), "6:69: args: expected text in whole characters, got '\\ud800'"),
        (service("a", "args: [{\"\\ud800\": 1}]"), "6:69: args: expected text in whole characters, got '\\ud800'"),
        (service("a", f"args: [&big {'x' * 100_000}{', *big' * 11}]"),
         "6:69: args: expected at most 1048576 characters in all"),
        (service("a", "register: '{a}'"),
         "6:73: register: expected a name of letters, digits and _.:/@+- that starts with a letter, digit or _, got '{a}'"),
        (service("a", "register: x") + service("b", "register: x"),
         "7:73: register: the name x is that of app:a at a.yaml:6:73"),
        (service("a", "lifecycle: 3"), "6:74: lifecycle: expected a mapping, got 3"),
        (service("a", "lifecycle: {restart: always}"), "6:84: lifecycle.restart: expected a mapping, got 'always'"),
        (service("a", "lifecycle: {restrt: {}}"),
         "6:75: unknown field 'lifecycle.restrt' of process.service; did you mean restart?"),
        (service("a", "lifecycle: {restart: {typ: permanent}}"),
         "6:85: unknown field 'lifecycle.restart.typ' of process.service; did you mean type?"),
        (service("a", "lifecycle: {restart: {type: always}}"),
         "6:91: lifecycle.restart.type: expected permanent, transient or temporary, got 'always'"),
        (service("a", "lifecycle: {stop_timeout: 0}"),
         "6:89: lifecycle.stop_timeout: expected a duration longer than 0, got 0"),
        (service("a", "lifecycle: {restart: {jitter: 2}}"),
         "6:93: lifecycle.restart.jitter: expected a number from 0 to 1, got 2"),
        (service("a", "lifecycle: {restart: {jitter: true}}"),
         "6:93: lifecycle.restart.jitter: expected a number from 0 to 1, got true"),
        (service("a", "lifecycle: {restart: {backoff_factor: 0.5}}"),
         "6:101: lifecycle.restart.backoff_factor: expected a number from 1 to 100, got 0.5"),
        (service("a", "lifecycle: {restart: {intensity: -1}}"),
         "6:96: lifecycle.restart.intensity: expected a whole number from 0 to 1000000, got -1"),
        (service("a", "lifecycle: {restart: {initial_delay: 2m}}"),
         "6:100: lifecycle.restart.initial_delay: expected at most max_delay, 90s, got 120s"),
        (service("a", "lifecycle: {requires: b}"), "6:85: lifecycle.requires: expected a list, got 'b'"),
        (service("a", "lifecycle: {requires: [missing]}"), "6:86: lifecycle.requires: there is no process.service app:missing"),
        (service("a", "lifecycle: {requires: [room]}"),
         "6:86: lifecycle.requires: app:room is of kind process.python, expected process.service"),
        (service("a") + service("b", "lifecycle: {requires: [a, a]}"),
         "7:89: lifecycle.requires: expected each item once, got 'a' twice"),
        (service("a", "lifecycle: {requires: [a]}"),
         "6:86: lifecycle.requires: a circle, in which nothing can start first: app:a requires app:a"),
        (service("a", "lifecycle: {requires: [b]}") + service("b", "lifecycle: {requires: [c]}")
         + service("c", "lifecycle: {requires: [d, a]}") + service("d"),
         "6:86: lifecycle.requires: a circle, in which nothing can start first:"
         " app:a requires app:b requires app:c requires app:a"),
    ],
    ids=lambda value: value[-60:],
)  # fmt: skip
def test_bad_services(text: str, expected: str) -> None:  # S36 to S39
    assert check(entries(ROOM + text)) == [f"a.yaml:{expected}"]


def test_every_circle_is_named() -> None:
    text = ROOM + service("a", "lifecycle: {requires: [b, c]}") + service("b", "lifecycle: {requires: [a]}")
    text += service("c", "lifecycle: {requires: [a]}") + service("d", "lifecycle: {requires: [d]}")
    problems = check(entries(text))
    assert [problem.rpartition(": ")[2] for problem in problems] == [
        "app:a requires app:b requires app:a",
        "app:a requires app:c requires app:a",
        "app:d requires app:d",
    ]
