"""PIDs and names (S1)."""

from __future__ import annotations

import pickle
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsrelay.kernel.wire.errors import Invalid
from wsrelay.kernel.wire.pid import MAX_PID_LENGTH, REMEMBERED, Pid, check_name, looks_like_pid, remember

NODES = st.from_regex(r"\A[A-Za-z0-9_.-]{1,64}\Z")
HOSTS = st.from_regex(r"\A[A-Za-z0-9_.:/-]{1,200}\Z")
EPOCHS = st.from_regex(r"\A[0-9a-f]{16}\Z")
OWNERS = st.just("s") | st.integers(1, 999_999_999).map("g{}".format)
SERIALS = st.integers(1, 10**18 - 1)
GOOD = "{node@app:host|0123456789abcdef.g7.42}"


@given(NODES, HOSTS, EPOCHS, OWNERS, SERIALS)
def test_what_is_made_parses_to_the_same_parts(node: str, host: str, epoch: str, owner: str, serial: int) -> None:
    pid = Pid.make(node, host, epoch, owner, serial)
    parsed = Pid.parse(str(pid))
    assert type(parsed) is Pid
    assert parsed == pid == str(pid)
    assert hash(parsed) == hash(str(pid))
    assert parsed.parts == (node, host, epoch, owner, serial)
    assert parsed.parts.is_connection == parsed.is_connection == (owner != "s")
    assert parsed.parts.gateway_incarnation == (0 if owner == "s" else int(owner[1:]))
    assert len(pid) <= MAX_PID_LENGTH
    assert looks_like_pid(pid)
    assert pickle.loads(pickle.dumps(pid)) == pid
    assert Pid.parse(parsed) is parsed
    with pytest.raises(Invalid):
        check_name(pid)


@pytest.mark.parametrize(
    "text",
    [
        "", "{}", "node", GOOD + "\n", " " + GOOD, GOOD[:-1], GOOD[1:], GOOD + "}", "{" + GOOD,
        GOOD.replace("node", ""), GOOD.replace("app:host", ""), GOOD.replace("node", "n" * 65),
        GOOD.replace("app:host", "h" * 201), GOOD.replace("app", "a@b"), GOOD.replace("node", "nö"),
        GOOD.replace("abcdef", "ABCDEF"), GOOD.replace("0123", "123"), GOOD.replace("0123", "00123"),
        GOOD.replace("g7", "g0"), GOOD.replace("g7", "g07"), GOOD.replace("g7", "g"), GOOD.replace("g7", "x"),
        GOOD.replace("g7", "g" + "9" * 10), GOOD.replace(".42", ".0"), GOOD.replace(".42", ".042"),
        GOOD.replace(".42", ".-1"), GOOD.replace(".42", "." + "9" * 19), GOOD.replace(".42", ".٤٢"),
        GOOD.replace(".42", ""), "x" * 10_000_000,
    ],
)  # fmt: skip
def test_what_is_no_pid_is_invalid(text: str) -> None:
    for _ in range(2):  # a failure must not be remembered as a success
        with pytest.raises(Invalid) as problem:
            Pid.parse(text)
        assert len(str(problem.value)) < 400
    with pytest.raises(Invalid):
        _ = Pid(text).parts


@pytest.mark.parametrize("value", [None, 1, b"{node@host|0123456789abcdef.s.1}", (), ["{}"]])
def test_only_strings_can_be_pids_or_names(value: object) -> None:
    with pytest.raises(Invalid):
        Pid.parse(value)
    with pytest.raises(Invalid):
        check_name(value)


@given(st.text(max_size=60))
def test_any_text_parses_or_is_invalid(text: str) -> None:
    try:
        parsed = Pid.parse(text)
    except Invalid:
        return
    assert Pid.make(*parsed.parts) == text


def test_no_more_pids_are_remembered_than_asked_for() -> None:
    remember(16)
    tracemalloc.start()
    try:
        for serial in range(1, 2001):
            assert Pid.make("node", "app:host", "0123456789abcdef", "s", serial).parts.serial == serial
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        remember(REMEMBERED)
    assert kept < 16 * 2048  # 2,000 are twenty times that


@given(st.from_regex(r"\A[A-Za-z0-9_][A-Za-z0-9_.:/@+-]{0,199}\Z"))
def test_names(name: str) -> None:
    assert check_name(name) == name
    assert not looks_like_pid(name)


@pytest.mark.parametrize("name", ["", "{a", "@a", ".a", "-a", "a b", "a\n", "ä", "a" * 201, "a|b", "a\0"])
def test_what_is_no_name_is_invalid(name: str) -> None:
    with pytest.raises(Invalid):
        check_name(name)
