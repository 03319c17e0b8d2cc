"""The configuration check of whatever may stand in a file: aliases, damage, any bytes."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from wsrelay.kernel.core.configuration import File, Problem, check_configuration
from wsrelay.kernel.wire.configuration import Application, HostLimits, pack, unpack

from .checking import DISK, EXAMPLE, check, entries


def test_an_alias_bomb_is_cut_short() -> None:
    lines = ["a: &a [x, x, x, x, x, x, x, x, x, x]"]
    lines += [
        f"{name}: &{name} [{', '.join(['*' + below] * 10)}]" for below, name in zip("abcdefgh", "bcdefghi", strict=True)
    ]
    result = check("\n".join(lines))
    assert isinstance(result, list)
    assert any("expected at most 50000 values" in problem for problem in result)
    assert len(result) < 20


def test_an_alias_that_contains_itself() -> None:
    result = check(entries("- &a {name: x, kind: process.host, meta: {again: *a}}"))
    assert result == ["a.yaml:4:3: an alias that contains itself, expected a value"]


def test_aliases_share_values() -> None:
    result = check(
        entries(
            "- {name: a, kind: process.host, limits: &l {mailbox: 1MiB}}\n- {name: b, kind: process.host, limits: *l}"
        )
    )
    assert isinstance(result, Application)
    assert result.hosts["app:b"].limits == HostLimits(1 << 20)


SPLICES = st.sampled_from([
    "", "\n", ":", "- ", "{", "}", "[", "]", '"', "'", "*a", "&a ", "!!set", "<<", "\t", "\x00", "é", "no", "0x1", "~", "|", "\\",
    "%", "#", "1e9", "name", "kind", "http.static", "process.host", "*", "\ufeff", "\x85", "\u2028", "? ", "file://", "python://",
])  # fmt: skip


@settings(max_examples=300)
@given(st.lists(st.tuples(st.integers(0, len(EXAMPLE)), st.integers(0, 12), SPLICES | st.text(max_size=4)), max_size=5))
def test_any_change_gives_an_application_or_problems_with_places(changes: list[tuple[int, int, str]]) -> None:
    text = EXAMPLE
    for start, length, splice in changes:
        text = text[:start] + splice + text[start + length :]
    content = text.encode("utf-8", "replace")
    result = check_configuration([File("a.yaml", content, "/srv/app")], DISK)
    if isinstance(result, Application):
        assert unpack(Application, pack(result)) == result
        return
    assert result
    assert list(result) == sorted(result)
    for problem in result:
        assert_place_exists(problem, content.decode())


@settings(max_examples=150)
@given(st.binary(max_size=60))
def test_any_bytes_give_problems(content: bytes) -> None:
    result = check_configuration([File("a.yaml", content, "/srv/app")], DISK)
    assert not isinstance(result, Application)
    for problem in result:
        assert_place_exists(problem, content.decode("utf-8-sig", "replace"))


def assert_place_exists(problem: Problem, text: str) -> None:
    place = problem.place
    assert 1 <= place.line <= text.count("\n") + 1, problem
    assert 1 <= place.column <= len(text.split("\n")[place.line - 1]) + 1, problem
    assert "\n" not in str(problem)
