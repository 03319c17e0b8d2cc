"""Every line that the runtime logs is explained in docs/operations.md. The lines are read from the sources: each text with its
conversions is held against the patterns of the page's table, where a word in capitals or `…` stands for anything."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
METHODS = frozenset({"debug", "info", "warning", "error", "critical", "exception", "log"})
ACCESS_LOG = "gateway/shell/accounts.py"
"""Its three lines have a section of their own, with an example of each."""
MADE_ELSEWHERE = re.compile(r"(%s[:\s]*)+")
"""A line that is nothing but the text of an error, or of a summary."""
EXAMPLES = {"%s: restarting it%s": "the gateway ended: signal SIGKILL: restarting it"}
"""Lines that begin with a text from elsewhere, with one that it can be."""
TABLE = re.compile(r"^\| line \| level \|.*?\n\n", re.MULTILINE | re.DOTALL)


def lines() -> Iterator[tuple[str, str]]:
    """Every file and text that is given to a logger."""
    for package in ("kernel", "gateway", "workers"):
        for path in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if (
                    isinstance(node, ast.Call)
                    and isinstance(node.func, ast.Attribute)
                    and node.func.attr in METHODS
                    and ast.unparse(node.func.value).endswith("logger")
                ):
                    text = node.args[1 if node.func.attr == "log" else 0]
                    assert isinstance(text, ast.Constant), f"{path}: {ast.unparse(node)}"
                    yield str(path.relative_to(ROOT)), str(text.value)


LINES = sorted({(path, text) for path, text in lines() if path != ACCESS_LOG and not MADE_ELSEWHERE.fullmatch(text)})


def patterns() -> Iterator[re.Pattern[str]]:
    """What the page explains."""
    section = TABLE.search((ROOT / "docs/operations.md").read_text())
    assert section is not None
    for row in section[0].splitlines():
        if row.startswith("| `"):
            for shown in re.findall(r"`([^`]+)`", row.split(" | ")[0]):
                pieces = re.split(r" ?…|\b[A-Z]+\b", shown)
                yield re.compile(".*".join(map(re.escape, pieces)))


@pytest.mark.parametrize(("path", "text"), LINES, ids=lambda value: value if "/" not in value else "")
def test_every_line_of_the_log_is_explained(path: str, text: str) -> None:
    example = EXAMPLES.get(text) or re.sub(r"%[.\d]*[a-z]", "1", text)
    assert any(pattern.match(example) for pattern in patterns()), (
        f"{path} logs {text!r}: docs/operations.md does not say what it means"
    )
