"""What a runtime under test is to run: a YAML file or folder of yours, or entries and sources that a test writes down.

Owns the folder that the runtime reads: always a copy, which `copies` changes so that a test never meets what runs on the machine.
Knows nothing of processes.
"""

from __future__ import annotations

import copy
import difflib
import shutil
import textwrap
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from .copies import adapt, entry_ids, users

Entry = Mapping[str, Any]
Entries = Sequence[Entry] | Mapping[str, Any] | str
"""A list of entries; a whole document (`version`, `namespace`, `entries`) or entries by their names; or the text of a file. A text of
one line without a colon cannot be one: it is a path."""

GATEWAY: Entry = {"name": "gateway", "kind": "http.service", "addr": "127.0.0.1:0"}
PROCESSES: Entry = {"name": "processes", "kind": "process.host"}
ROUTER: Entry = {
    "name": "router",
    "kind": "http.router",
    "meta": {"server": "gateway"},
    "prefix": "/",
    "post_middleware": ["websocket_relay"],
}
_NOT_COPIED = shutil.ignore_patterns("__pycache__", ".*", "node_modules", "*.egg-info")


def endpoint(path: str, method: str, *, source: str = "file://app.py", verb: str = "GET") -> list[dict[str, Any]]:
    """The entries of one handler: a `function.python` for `method` and an `http.endpoint` for it at `path`."""
    return [
        {"name": method, "kind": "function.python", "source": source, "method": method},
        {
            "name": f"{method}.endpoint",
            "kind": "http.endpoint",
            "meta": {"router": "router"},
            "method": verb,
            "path": path,
            "func": method,
        },
    ]


def actor(method: str, *, source: str = "file://app.py") -> dict[str, Any]:
    """The entry of one `process.python`, named as its function."""
    return {"name": method, "kind": "process.python", "source": source, "method": method}


def application(*entries: Entry | Sequence[Entry]) -> list[dict[str, Any]]:
    """A gateway on a free port, a host, a router with the relay at `/`, and `entries`: copies, which the test may change."""
    made: list[Entry] = [GATEWAY, PROCESSES, ROUTER]
    for entry in entries:
        made += [entry] if isinstance(entry, Mapping) else entry
    return [copy.deepcopy(dict(entry)) for entry in made]


def make_application(
    application: Path | Entries, sources: Mapping[str, str], folder: Path, sockets: Path, points: Path
) -> None:
    """Make what is to be run in `folder`: a copy of a path, or entries written down; in both, services listen where nothing else
    does, and sandboxes let `points` through. Raises FileNotFoundError."""
    path = path_of(application)
    if path is None:
        assert not isinstance(application, Path)  # for the type
        write_application(folder, application, sources)
    else:
        copy_application(path, folder)
        write_sources(folder, sources)
    for index in folder.rglob("_index.yaml"):
        index.write_text(adapt(index.read_text(), sockets, points))


def check_ids(folder: Path, ids: Collection[str]) -> None:
    """Check that the application in `folder` has these entries. Raises ValueError with the nearest that it has."""
    known: set[str] = set()
    for index in folder.rglob("_index.yaml"):
        known |= entry_ids(index.read_text())
    for unknown in sorted(set(ids) - known) if known else ():  # what is no configuration is told of otherwise
        near = difflib.get_close_matches(unknown, known, 3, 0.0)
        raise ValueError(f"there is no entry {unknown!r} in this application; it has {', '.join(near)}, …")


def users_of(application: Path | Entries) -> dict[str, str]:
    """Hosts with a `user` of their own, in an application or in the folder that was made of it: id to user."""
    path = path_of(application)
    if path is None:
        return users(_text_of(application, "app"))
    found: dict[str, str] = {}
    for index in path.rglob("_index.yaml") if path.is_dir() else [path] if path.exists() else []:
        found |= users(index.read_text())
    return found


def path_of(application: Path | Entries) -> Path | None:
    """The path that is meant; None for entries. A str is a path if it cannot be YAML with entries, or is there."""
    if isinstance(application, Path):
        return application
    if (
        isinstance(application, str)
        and "\n" not in application
        and (":" not in application or Path(application).exists())
    ):
        return Path(application)
    return None


def write_application(folder: Path, entries: Entries, sources: Mapping[str, str], namespace: str = "app") -> None:
    """Write `_index.yaml` and the Python files (name to text, dedented) into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "_index.yaml").write_text(_text_of(entries, namespace))
    write_sources(folder, sources)


def write_sources(folder: Path, sources: Mapping[str, str]) -> None:
    """Write Python files (name to text, dedented) into `folder`."""
    for name, text in sources.items():
        (folder / name).write_text(textwrap.dedent(text))


def copy_application(path: Path, folder: Path) -> None:
    """Copy a YAML file with what lies beside and below it, or a folder, into `folder`. Raises FileNotFoundError."""
    if not path.exists():
        raise FileNotFoundError(f"{path}: there is no such file or folder to run")
    shutil.copytree(path if path.is_dir() else path.parent, folder, ignore=_NOT_COPIED, dirs_exist_ok=True)
    if path.is_file():  # the only file that is run
        for other in folder.rglob("_index.yaml"):
            if other != folder / path.name:
                other.unlink()
        if path.name != "_index.yaml":
            (folder / path.name).rename(folder / "_index.yaml")


def _text_of(entries: Path | Entries, namespace: str) -> str:
    assert not isinstance(entries, Path)
    return entries if isinstance(entries, str) else yaml.safe_dump(_document(entries, namespace), sort_keys=False)


def _document(entries: Sequence[Entry] | Mapping[str, Any], namespace: str) -> dict[str, Any]:
    if isinstance(entries, Mapping):
        if "entries" in entries:
            return dict(entries)
        entries = [{"name": name, **fields} for name, fields in entries.items()]
    return {"version": "1.0", "namespace": namespace, "entries": [dict(entry) for entry in entries]}
