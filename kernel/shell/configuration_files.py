"""Finds the configuration's files, reads them, and has them checked.

Owns the file system's side of the check. What a configuration may say is the core's.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from ..core.configuration import File, check_configuration
from ..core.configuration.document import MAX_BYTES
from ..wire.configuration import Application
from . import certificates

INDEX = "_index.yaml"
"""The files of a folder that are read."""


class ConfigurationError(Exception):
    """The configuration cannot be used; `problems` has a line for each mistake."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class FileSystem:
    """The core's `Sources`, from the real file system."""

    def read_source(self, path: str) -> bytes | None:
        return _read(Path(path))

    def is_file(self, path: str) -> bool:
        return os.path.isfile(path)

    def is_directory(self, path: str) -> bool:
        return os.path.isdir(path)


def load(paths: Sequence[str], *, serving: bool = False) -> Application:
    """Load the files, and every `_index.yaml` below the folders. `serving`: whether it is to be served by this user. Raises
    ConfigurationError with all mistakes."""
    problems: list[str] = []
    files: dict[str, File] = {}
    for path in paths:
        found = _find(path, problems)
        for name in found:
            _add_file(name, files, problems)
    result = check_configuration(files.values(), FileSystem())
    if not isinstance(result, Application):
        problems.extend(str(problem) for problem in result)
    else:
        problems.extend(certificates.mistakes(result, serving=serving))
        if not problems:
            return result
    raise ConfigurationError(problems)


def _find(path: str, problems: list[str]) -> list[str]:
    """Return the files that an argument of the command line stands for."""
    if os.path.isfile(path):
        return [path]
    if not os.path.isdir(path):
        problems.append(f"{path}: there is no such file or folder")
        return []
    found = sorted(os.path.join(folder, INDEX) for folder, _, names in os.walk(path) if INDEX in names)
    if not found:
        problems.append(f"{path}: there is no {INDEX} in this folder or below it")
    return found


def _add_file(name: str, files: dict[str, File], problems: list[str]) -> None:
    real = os.path.realpath(name)
    if real in files:
        return
    content = _read(Path(name), MAX_BYTES + 1)
    if content is None:
        problems.append(f"{name}: the file cannot be read")
        return
    files[real] = File(os.path.normpath(name), content, os.path.dirname(os.path.abspath(name)))


def _read(path: Path, limit: int = -1) -> bytes | None:
    if not path.is_file():  # a FIFO would be waited for
        return None
    try:
        with path.open("rb") as file:
            return file.read(limit)
    except OSError:
        return None
