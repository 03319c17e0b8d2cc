"""The JSON files of a run: that they can be written is known before it, and what is wrong with one is said with its name."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

STANDARD_OUTPUT = Path("-")


class Output:
    """Where people's tables and the document of a run go."""

    def __init__(self, path: Path | None) -> None:
        """`path` is the document's; `-` is standard output, and then the tables are not there. Raises RuntimeError if it
        cannot be written."""
        self._path = path
        self._tables = sys.stderr if path == STANDARD_OUTPUT else sys.stdout
        if path and path != STANDARD_OUTPUT:
            ensure_writable(path)

    def say(self, text: str) -> None:
        """Something for people."""
        print(text, file=self._tables, flush=True)

    def write(self, document: Any) -> None:
        """The document, if one is wanted."""
        if self._path == STANDARD_OUTPUT:
            print(text_of(document), end="")
        elif self._path:
            self._path.write_text(text_of(document))


def text_of(document: Any) -> str:
    """As it is written."""
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def ensure_writable(path: Path) -> None:
    """Raises RuntimeError if a file cannot be written there. What is there stays as it is."""
    try:
        if not path.exists():
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC))
            path.unlink()
        elif not path.is_dir():
            if path.is_file():  # a pipe's reader would take the end of this for the end of all
                os.close(os.open(path, os.O_WRONLY | os.O_CLOEXEC))
        else:
            raise IsADirectoryError(0, "it is a folder")
    except OSError as problem:
        raise RuntimeError(f"{path} cannot be written: {problem.strerror}") from problem


def read(path: Path, made_by: str) -> dict[str, Any]:
    """A document. Raises RuntimeError with its name and what writes it, if it is none."""
    try:
        document = json.loads(path.read_text())
    except OSError as problem:
        raise RuntimeError(f"{path} cannot be read ({problem.strerror}): '{made_by}' writes it") from problem
    except (ValueError, RecursionError) as problem:
        raise RuntimeError(f"{path} is no JSON ({problem}): '{made_by}' writes it anew") from problem
    if not isinstance(document, dict):
        raise RuntimeError(f"{path} is no object of JSON: '{made_by}' writes it anew")
    return document


@contextlib.contextmanager
def understood(path: Path, made_by: str) -> Iterator[dict[str, Any]]:
    """A document, for a block that uses what must be in it. Raises RuntimeError as `read`, and if it is not."""
    document = read(path, made_by)
    try:
        yield document
    except (LookupError, TypeError, ValueError, AttributeError) as problem:
        raise RuntimeError(
            f"{path} is not what '{made_by}' writes, which writes it anew: {type(problem).__name__}: {problem}"
        ) from problem
