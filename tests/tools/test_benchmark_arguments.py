"""What `tools/bench` makes of its arguments and its files, before it measures anything."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from benchmark import __main__ as bench
from benchmark import arguments, runner
from benchmark.report import documents, page, regression

GOOD: dict[str, Any] = {
    "peer": regression.PEER,
    "tolerance": 0.35,
    "ratios": {"echo": 0.5, "echo-many": 0.5, "echo-large": 0.5},
}


@pytest.fixture(autouse=True)
def _nothing_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is wrong must be said before that; a full measurement would take minutes."""
    monkeypatch.setattr(runner, "run", lambda *_: pytest.fail("it began to measure"))


def complaint(given: str, capsys: pytest.CaptureFixture[str]) -> str:
    """What is said of wrong arguments."""
    with pytest.raises(SystemExit) as ended:
        arguments.parse(given.split())
    assert ended.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("--check echo", "--check measures echo, echo-many, echo-large, and stands alone"),
        ("--check --quick", "--quick goes with isolation and cases, and not with --check"),
        ("--check --server wsrelay", "--server goes with cases, and not with --check"),
        ("--check --plots", "--plots goes with page and cases"),
        ("--check --without-speed", "--without-speed goes with cases"),
        ("--check --list", "--list and --check: one at a time"),
        ("--check floor", "--check and floor: one at a time"),
        ("--accept", "--accept goes with --check, and not with cases"),
        ("crash --server nginx --quick", "crash is measured on wsrelay, and not on nginx"),
        ("echo crash --server nginx", "crash is measured on wsrelay, and not on nginx"),
        ("spawn crash --server wsrelay --server nginx", "nginx does not do spawn, crash"),
        ("echo --server wsrelay-plain", "wsrelay-plain is measured by --without-speed"),
        ("--without-speed --server wsrelay", "--without-speed measures this runtime beside itself"),
        ("connect-own --without-speed", "connect-own is measured on wsrelay-own, websocketd, and not on wsrelay"),
        ("floor --rounds 2", "--rounds goes with --check and isolation and cases, and not with floor"),
        ("page --json x", "and not with page"),
        ("isolation --server wsrelay", "and not with isolation"),
        ("isolation page", "isolation and page: one at a time"),
        ("floor echo", "floor stands alone, without echo"),
        ("--install-peers --json x", "and not with --install-peers"),
        ("--list echo", "--list stands alone, without echo"),
        ("--json isolation", "--json isolation: a file was expected"),
        ("echo --json", "--json needs a FILE"),
        ("isolation --quick --json", "--json needs a FILE"),
        ("nothing", "got 'nothing'"),
        ("--rounds ²", "expected a whole number from 1"),
    ],
)
def test_what_would_be_ignored_is_an_error(given: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert said in complaint(given, capsys)


def test_every_case_is_listed_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert len(set(arguments.KNOWN)) == len(arguments.KNOWN)
    assert "echo, echo," not in complaint("nothing", capsys)


@pytest.mark.parametrize("name", ["floor", "isolation", "profile"])
def test_the_committed_figures_are_the_default_of_json(name: str) -> None:
    assert arguments.parse([name, "--json"]).json == page.FOLDER / f"{name}.json"
    assert arguments.parse([name, "--json", "x"]).json == Path("x")
    assert arguments.parse([name]).json is None


def test_the_cases_that_are_named_are_measured_once() -> None:
    assert arguments.parse([]).names == list(arguments.GROUPS["echo"])
    assert arguments.parse(["crash", "echo", "crash"]).names == ["crash", *arguments.GROUPS["echo"]]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read"),
        ("{", "is no JSON"),
        (b"\xff", "is no JSON"),
        ([], "is no object"),
        ({}, "'ratios' must be an object"),
        (GOOD | {"ratios": {"echo": 0.5}}, "the ratio of 'echo-many' must be a number over 0, got None"),
        (GOOD | {"ratios": GOOD["ratios"] | {"echo": "0.5"}}, "the ratio of 'echo'"),
        (GOOD | {"ratios": GOOD["ratios"] | {"echo": 0}}, "the ratio of 'echo'"),
        (GOOD | {"ratios": GOOD["ratios"] | {"echo": True}}, "the ratio of 'echo'"),
        (GOOD | {"ratios": GOOD["ratios"] | {"echo": float("nan")}}, "the ratio of 'echo'"),
        (GOOD | {"tolerance": "much"}, "'tolerance' must be a number from 0"),
        (GOOD | {"peer": "node"}, "'peer' must be 'uvicorn-wsproto', got 'node'"),
    ],
)
def test_bad_ratios_are_found_before_anything_is_measured(
    content: Any, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "regression.json"
    if content is not None:
        text = content if isinstance(content, str | bytes) else json.dumps(content)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    monkeypatch.setattr(regression, "COMMITTED", path)
    with pytest.raises(RuntimeError, match="tools/bench --check --accept") as found:
        bench.check(arguments.parse(["--check"]))
    assert said in str(found.value)
    assert str(path) in str(found.value)


def test_what_is_accepted_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "regression.json"
    accepted = regression.accept(GOOD["ratios"], "0123", path)
    assert regression.read(path) == accepted == regression.Committed(GOOD["ratios"], regression.TOLERANCE)


@pytest.mark.parametrize("given", ["echo", "--check", "floor", "profile", "isolation"])
def test_where_nothing_can_be_written_nothing_is_measured(given: str, tmp_path: Path) -> None:
    for path in (tmp_path / "missing" / "x.json", tmp_path):
        parsed = arguments.parse([*given.split(), "--json", str(path)])
        with pytest.raises(RuntimeError, match="cannot be written"):
            bench.ACTIONS[parsed.action](parsed)


def test_what_is_there_stays_until_there_is_something_new(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_text("figures")
    documents.Output(old)
    documents.Output(new)
    assert old.read_text() == "figures"
    assert not new.exists()


def test_plots_that_cannot_be_drawn_are_found_before_anything_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether matplotlib is installed or not: None is how Python notes a module that cannot be imported."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    parsed = arguments.parse(["echo", "--plots", str(tmp_path / "plots")])
    with pytest.raises(RuntimeError, match="plots need matplotlib"):
        bench.measure(parsed)


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"cases": {"echo": {}}, "conditions": {}, "profile": "full"}'])
@pytest.mark.parametrize("name", ["FIGURES", "FLOOR", "PROFILE", "ISOLATION"])
def test_a_broken_document_is_named(name: str, content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "document.json"
    path.write_text(content)
    monkeypatch.setattr(page, name, path)
    with pytest.raises(RuntimeError, match=r"document\.json .*tools/bench \w+ --json"):
        page.rendered(page.PAGE.read_text())


def test_what_was_not_measured_is_said_on_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "ISOLATION", tmp_path / "missing.json")
    assert page.NOT_YET["isolation"] in page.rendered(page.PAGE.read_text())


def test_a_part_that_nobody_makes_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="parts that nobody makes: weather"):
        page.rendered("<!-- figures: weather -->\n<!-- end -->\n")
