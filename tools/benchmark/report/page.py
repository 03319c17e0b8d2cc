"""Writes the figures into docs/performance/README.md, between its marks, so that none is typed by hand."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..cases.every import CASES
from ..cases.model import Settings
from . import documents, isolated, tables

FOLDER = Path(__file__).resolve().parents[3] / "docs" / "performance"
PAGE = FOLDER / "README.md"
FIGURES = FOLDER / "figures.json"
FLOOR = FOLDER / "floor.json"
PROFILE = FOLDER / "profile.json"
ISOLATION = FOLDER / "isolation.json"
MAKES_FIGURES = "tools/bench all --json"
NOT_YET = {
    "floor": "Not counted in this version: `tools/bench floor --json` does so.",
    "profile": "Not sampled in this version: `tools/bench profile --json` does so.",
    "isolation": "Not measured in this version: `tools/bench isolation --json` does so.",
}
_PART = re.compile(r"(<!-- figures: (?P<name>[\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def write() -> None:
    """Write every part of the page anew. Raises RuntimeError without figures, and for a part that nobody makes."""
    PAGE.write_text(rendered(PAGE.read_text()))


def rendered(page: str) -> str:
    """The page with the committed figures in it."""
    with figures() as document:
        parts = make_parts(document)
    for name, path, make in (
        ("floor", FLOOR, _floor),
        ("profile", PROFILE, _profile),
        ("isolation", ISOLATION, isolated.part),
    ):
        if path.exists():
            with documents.understood(path, f"tools/bench {name} --json") as document:
                parts[name] = make(document)
    if unknown := {match["name"] for match in _PART.finditer(page)} - parts.keys():
        raise RuntimeError(f"{PAGE} has parts that nobody makes: {', '.join(sorted(unknown))}")
    return _PART.sub(lambda match: f"{match[1]}{parts[match['name']]}\n{match[3]}", page)


def figures() -> contextlib.AbstractContextManager[dict[str, Any]]:
    """The committed figures, for a block that uses what must be in them. Raises RuntimeError if it is not."""
    return documents.understood(FIGURES, MAKES_FIGURES)


def make_parts(document: Mapping[str, Any]) -> dict[str, str]:
    """The parts by name: `conditions`, `marks`, `cases`, and what `NOT_YET` says of the others.

    The marks are judged anew, from the rounds: they are those of the cases as they are now.
    """
    results = document["cases"]
    return {
        "conditions": _conditions(document),
        "marks": _marks(results),
        "cases": "\n".join(_case(name, results[name]) for name in CASES if name in results),
        **NOT_YET,
    }


def _conditions(document: Mapping[str, Any]) -> str:
    lines = [f"- {name}: {value}" for name, value in document["conditions"].items()]
    rounds = {result["rounds"] for result in document["cases"].values()}
    if min(rounds) < Settings.rounds:
        lines.append(
            f"- rounds: **{min(rounds)}**: a draft, made while the machine did other things; no figure here is final"
        )
    if document["profile"] != "full":
        lines.append(f"- profile: **{document['profile']}**, which shows that everything works and is no measurement")
    return "\n".join(lines)


def _marks(results: Mapping[str, Any]) -> str:
    body = []
    for name in CASES:
        if name in results:
            result = results[name]
            marks = CASES[name].judge(result["servers"], result["missing"], result["failed"])
            for number, row in enumerate(tables.mark_rows(marks)):
                body.append([result["title"] if not number else "", *row])
    return tables.markdown(["case", "must reach", "is", "bound", "ratio", ""], body)


def _case(name: str, result: Mapping[str, Any]) -> str:
    head, *body = tables.rows(CASES[name], result)
    parts = [f"### {result['title']}\n", CASES[name].explanation, "", tables.markdown(head, body), ""]
    if noted := tables.notes(result):
        parts += ["\n".join(f"- {note.splitlines()[0]}" for note in noted), ""]
    if (FOLDER / f"{name}.png").exists():
        parts += [f"![{result['title']}]({name}.png)", ""]
    return "\n".join(parts)


def _floor(document: Mapping[str, Any]) -> str:
    body = [
        [process, call, f"{found['calls']:.2f}", f"{found['bytes']:,.0f}" if found["bytes"] else ""]
        for process, calls in document["processes"].items()
        for call, found in calls.items()
    ]
    head = ["process", "system call", "for a message", "bytes for a message"]
    spent = [[label, f"{times['user']:.1f}", f"{times['system']:.1f}"] for label, times in document["cpu"].items()]
    times = tables.markdown(["process", "µs in the program, for a message", "µs in the kernel, for a message"], spent)
    said = f"{document['title']}, {document['messages']:,} messages, commit {document['commit']}:"
    return f"{said}\n\n{times}\n\n{tables.markdown(head, body)}"


def _profile(document: Mapping[str, Any]) -> str:
    body = [
        [process, f"`{found['function']}`", f"{found['own']:.1%}", f"{found['all']:.1%}"]
        for process, functions in document["processes"].items()
        for found in functions
    ]
    said = f"{document['title']}, {document['messages']:,} messages, commit {document['commit']}:"
    return f"{said}\n\n{tables.markdown(['process', 'function', 'own', 'with what it calls'], body)}"
