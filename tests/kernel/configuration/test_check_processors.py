"""`cpu_affinity`: how it is read, what is wrong with it, and that there is one gateway for all servers."""

from __future__ import annotations

import pytest
from wsrelay.kernel.wire.configuration import Application, pack, unpack

from .checking import check, entries


@pytest.mark.parametrize(
    ("kind", "given", "column", "got"),
    [
        ("process.host", "all", 47, "'all'"),
        ("process.host", "3-0", 47, "'3-0'"),
        ("process.host", "''", 47, "''"),
        ("process.host", "01", 47, "'01'"),
        ("process.host", "-1", 47, "-1"),
        ("process.host", "1.5", 47, "1.5"),
        ("process.host", "[0, '2-3', 8192]", 58, "8192"),
        ("process.host", "[0, [1]]", 51, "a list"),
        ("process.host", "[]", 47, "a list"),
        ("process.host", "{}", 47, "a mapping"),
        ("http.service", "one", 60, "'one'"),
    ],
)
def test_what_are_no_processors(kind: str, given: str, column: int, got: str) -> None:
    address = ", addr: ':80'" if kind == "http.service" else ""
    (line,) = check(entries(f"- {{name: a, kind: {kind}{address}, cpu_affinity: {given}}}"))
    expected = "expected processors from 0 to 8191 such as 1 or 0-3,8"
    assert line == f"a.yaml:4:{column}: cpu_affinity: {expected}, got {got}"


def test_every_bad_item_is_told() -> None:
    assert len(check(entries("- {name: a, kind: process.host, cpu_affinity: [x, 1, y]}"))) == 2


@pytest.mark.parametrize(
    ("given", "processors"),
    [
        ("none", None),
        ("1", (1,)),
        ("'0-3,8'", (0, 1, 2, 3, 8)),
        ("'8 0-1'", (0, 1, 8)),
        ("[8, 0, '0-2, 4']", (0, 1, 2, 4, 8)),
    ],
)
def test_processors_of_a_host(given: str, processors: tuple[int, ...] | None) -> None:
    result = check(entries(f"- {{name: a, kind: process.host, cpu_affinity: {given}}}"))
    assert isinstance(result, Application)
    assert result.hosts["app:a"].cpu_affinity == processors
    assert unpack(Application, pack(result)) == result


def servers(*affinities: str) -> str:
    """An `http.service` for each of these, with the field where there is something."""
    return "".join(
        f"- {{name: s{number}, kind: http.service, addr: ':{number}'{f', cpu_affinity: {each}' if each else ''}}}\n"
        for number, each in enumerate(affinities, 1)
    )


@pytest.mark.parametrize(
    ("affinities", "processors"),
    [(("", ""), None), (("", "1", "none"), (1,)), (("'0-1'", "", "[1, 0]"), (0, 1))],
)
def test_one_gateway_has_one_affinity(affinities: tuple[str, ...], processors: tuple[int, ...] | None) -> None:
    result = check(entries(servers(*affinities)))
    assert isinstance(result, Application)
    assert result.gateway.cpu_affinity == processors


def test_servers_that_disagree_about_the_gateway() -> None:
    same = "cpu_affinity: one gateway serves all, expected 0-1 as of app:s2 at a.yaml:5:60, got"
    assert check(entries(servers("", "'0,1'", "1", "'0-1'", "[0, 2]"))) == [
        f"a.yaml:6:60: {same} 1",
        f"a.yaml:8:60: {same} 0,2",
    ]
    assert check(entries(servers("0", "one"))) == [
        "a.yaml:5:60: cpu_affinity: expected processors from 0 to 8191 such as 1 or 0-3,8, got 'one'"
    ]
