"""A digest of the code that a host has imported: whether new code is there is whether it is another one.

Reads files; imports nothing. Python files count by their content, native ones by size and time: they are large. A source that is not
preloaded counts by its own file alone, because what it would import is not known here. The standard library does not count: it comes
with the Python that runs us, and which of it is imported for the first time by a source depends on what was imported before.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Collection

from .loader import FILE

_LIBRARY = os.path.dirname(os.__file__) + os.sep


def fingerprint(sources: tuple[str, ...], before: Collection[str]) -> str:
    """Return the digest of every module outside the standard library that has been imported since `before`, and of the files of
    `sources`."""
    files = {source.removeprefix(FILE) for source in sources if source.startswith(FILE)}
    for name, module in list(sys.modules.items()):
        path = getattr(module, "__file__", None)
        if name not in before and isinstance(path, str) and not _is_standard(name, path):
            files.add(path)
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(path.encode(errors="surrogateescape") + b"\0" + _content(path))
    return digest.hexdigest()


def _is_standard(name: str, path: str) -> bool:
    return path.startswith(_LIBRARY) and name.partition(".")[0] in sys.stdlib_module_names


def _content(path: str) -> bytes:
    try:
        if path.endswith(".py"):
            with open(path, "rb") as file:
                return hashlib.sha256(file.read()).digest()
        status = os.stat(path)
    except OSError:
        return b"-"
    return b"%d %d" % (status.st_size, status.st_mtime_ns)
