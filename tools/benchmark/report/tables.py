"""Results as tables of text and of Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Mapping
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Any

from ..cases.every import CASES
from ..cases.model import Case
from ..peers.registry import PEERS
from .text import Table

REACHED = {True: "reached", False: "not reached", None: "cannot be told"}


def figure(value: float | None, digits: int) -> str:
    """A number with its thousands marked; nothing for None."""
    return "" if value is None else f"{value:,.{digits}f}"


def cut(value: float | None, digits: int, *, at_least: bool) -> str:
    """A number that a mark is about: cut to the side on which the mark is missed, so that it never looks better than it is."""
    if value is None:
        return ""
    rounding = ROUND_FLOOR if at_least else ROUND_CEILING
    return f"{Decimal(repr(float(value))).quantize(Decimal(1).scaleb(-digits), rounding):,}"


def rows(case: Case, result: Mapping[str, Any]) -> Iterator[list[str]]:
    """The head, then a row for each server: every measure's median, and the range of its rounds. `-`: not measured."""
    titles = ((measure.title, "range") if measure.ranged else (measure.title,) for measure in case.measures)
    yield ["", *(title for some in titles for title in some)]
    for name, rounds in result["servers"].items():
        cells = [PEERS[name].title]
        for measure in case.measures:
            values = [one[measure.key] for one in rounds if one.get(measure.key) is not None]
            cells.append(figure(statistics.median(values), measure.digits) if values else "-")
            if measure.ranged:
                ends = (figure(min(values), measure.digits), figure(max(values), measure.digits)) if values else ()
                cells.append(" – ".join(ends))
        yield cells


def mark_rows(marks: Iterable[Mapping[str, Any]]) -> Iterator[list[str]]:
    """A row for each mark: what must be, what is, whether it is reached, and who might have changed that."""
    for mark in marks:
        at_least = mark["at least"]
        digits = 0 if (mark["value"] or 0) >= 1000 else 2
        of_itself = mark["ratio"] is None or mark["ratio"] == mark["value"]
        best = f" ({PEERS[mark['best']].title})" if mark.get("best") else ""
        told = mark["reached"] is not None  # by those who were not left out
        absent = [
            f"{why}: {PEERS[name].title}" for name, why in mark.get("absent", {}).items() if told or why != "left out"
        ]
        yield [
            mark["text"] + best,
            cut(mark["value"], digits, at_least=at_least),
            cut(mark["bound"], digits, at_least=at_least),
            "" if of_itself else f"{cut(mark['ratio'], 2, at_least=at_least)} ×",
            "; ".join([REACHED[mark["reached"]], *absent]),
        ]


def notes(result: Mapping[str, Any]) -> list[str]:
    """What is missing, and what failed."""
    missing = [f"missing: {PEERS[name].title}: {reason}" for name, reason in result["missing"].items()]
    return missing + [f"failed: {PEERS[name].title}: {reason}" for name, reason in result["failed"].items()]


def text(results: Mapping[str, Any]) -> str:
    """All results for a terminal."""
    parts = []
    for name, result in results.items():
        head, *body = rows(CASES[name], result)
        table = Table(head)
        for row in body:
            table.add(*row)
        parts.append(f"{name}: {result['title']}; medians of {result['rounds']} rounds\n\n{table}")
        if result["marks"]:
            marks = Table(["must reach", "is", "bound", "ratio", ""])
            for row in mark_rows(result["marks"]):
                marks.add(*row)
            parts.append(str(marks))
        parts += notes(result)
        parts.append("")
    return "\n\n".join(parts).rstrip()


def markdown(head: list[str], body: list[list[str]]) -> str:
    """A table of Markdown: the first column to the left, the others to the right."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *body]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def share_of_cpu(result: Mapping[str, Any], own: str, peer: str) -> float | None:
    """CPU per message of `own` as a multiple of that of `peer`, as the median of the ratios in each round."""
    servers = result["servers"]
    pairs = zip(servers.get(own, ()), servers.get(peer, ()), strict=False)
    ratios = [mine["cpu"] / theirs["cpu"] for mine, theirs in pairs if theirs["cpu"]]
    return statistics.median(ratios) if ratios else None
