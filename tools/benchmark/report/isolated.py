"""The part of the page that `tools/bench isolation` fills: what a disturbance cost those who have nothing to do with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .tables import cut, markdown

MIB = 1 << 20


def part(document: Mapping[str, Any]) -> str:
    """Latencies beside the calm ones, memory beside its bounds, and everything that is not as it must be."""
    judged = document["profile"] == "full"
    about = document["conditions"]
    said = (
        f"{document['rounds']} rounds, phases of {document['seconds']:g} s; {about['machine']}; load {about['load']}; "
        f"commit {about['commit']}:"
    )
    body, memory, problems = [], [], []
    for name, found in document["cases"].items():
        calm, disturbed = found["calm p99 ms"], found["disturbed p99 ms"]
        ratio, bound = found["p99 ratio"], document["p99 bound"]
        reached = ("reached" if ratio <= bound else "not reached") if judged else "not judged"
        if not found["promised"]:
            reached = ""
        allowed = f"{bound:g} ×" if found["promised"] else ""
        figures = [f"{calm:.2f}", f"{disturbed:.2f}", f"{cut(ratio, 2, at_least=False)} ×", allowed]
        body.append([f"{name}: {found['title']}", *figures, reached])
        memory += _memory(found.get("memory", {}))
        problems += [f"- not reached: {name}: {problem}" for problem in found["problems"]]
    head = ["disturbance", "calm p99 ms", "disturbed p99 ms", "ratio", "at most", ""]
    parts = [said, markdown(head, body)]
    if memory:
        parts.append(markdown(["under pressure", "grew by MiB", "at most", ""], memory))
    if problems:
        parts.append("\n".join(problems))
    if not judged:
        parts.append("**A quick run**, which shows that everything works and is no measurement.")
    return "\n\n".join(parts)


def _memory(parts: Mapping[str, Any]) -> list[list[str]]:
    return [
        [
            f"the {whose}",
            cut(found["growth"] / MIB, 1, at_least=False),
            cut(found["bound"] / MIB, 1, at_least=False),
            "reached" if found["growth"] <= found["bound"] else "not reached",
        ]
        for whose, found in parts.items()
    ]
