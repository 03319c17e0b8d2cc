"""Puts the table of each kind into `docs/configuration.md`; the rest of that page is written by hand."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from wsrelay.kernel.core.configuration.reference import render_fields
from wsrelay.kernel.core.configuration.schema import KINDS


def renew(page: str) -> str:
    """The page with the tables of the schema. Each stands below the heading of its kind and a line that says what it is."""
    for kind, schema in KINDS.items():
        section = re.search(rf"^### {re.escape(kind)}\n.*?\n(?:\|[^\n]*\n)+", page, re.MULTILINE | re.DOTALL)
        if section is None:
            raise ValueError(f"the page has no section with a table for {kind}")
        text = f"### {kind}\n\n{schema.about}\n\n{render_fields(kind)}\n"
        page = page[: section.start()] + text + page[section.end() :]
    return page


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(renew(path.read_text()))
