"""What a runtime under test is to run: a YAML file or folder of yours, or entries and sources that a test writes down.

Owns the folder that the runtime reads: always a copy, in which every `http.service` and `http.admin` listens on a free port, so that a test
never meets what runs on the machine. Knows nothing of processes.
"""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

Entry = Mapping[str, Any]
Entries = Sequence[Entry] | Mapping[str, Any] | str
"""A list of entries; a whole document (`version`, `namespace`, `entries`) or entries by their names; or the text of a file."""

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


def application(*entries: Entry | Sequence[Entry]) -> list[Entry]:
    """A gateway on a free port, a host, a router with the relay at `/`, and `entries`."""
    made: list[Entry] = [GATEWAY, PROCESSES, ROUTER]
    for entry in entries:
        made += [entry] if isinstance(entry, Mapping) else entry
    return made


def write_application(folder: Path, entries: Entries, sources: Mapping[str, str], namespace: str = "app") -> None:
    """Write `_index.yaml` and the Python files (name to text, dedented) into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    if not isinstance(entries, str):
        entries = yaml.safe_dump(_document(entries, namespace), sort_keys=False)
    (folder / "_index.yaml").write_text(entries)
    for name, text in sources.items():
        (folder / name).write_text(textwrap.dedent(text))


def copy_application(path: Path, folder: Path) -> None:
    """Copy a YAML file with what lies beside and below it, or a folder, into `folder`, and free its ports. Raises
    FileNotFoundError."""
    if not path.exists():
        raise FileNotFoundError(f"{path}: there is no such file or folder to run")
    shutil.copytree(path if path.is_dir() else path.parent, folder, ignore=_NOT_COPIED, dirs_exist_ok=True)
    if path.is_file():  # the only file that is run
        for other in folder.rglob("_index.yaml"):
            if other != folder / path.name:
                other.unlink()
        if path.name != "_index.yaml":
            (folder / path.name).rename(folder / "_index.yaml")
    for index in folder.rglob("_index.yaml"):
        index.write_text(free_ports(index.read_text()))


def free_ports(text: str) -> str:
    """The text of a configuration in which each `http.service` and `http.admin` listens on 127.0.0.1 and a free port. Everything else, comments
    too, stays as and where it is. A text that is no configuration is left to `wsrelay check` to complain of."""
    try:
        found = sorted(_addresses(yaml.compose(text)), key=lambda node: -node.start_mark.index)
    except yaml.YAMLError:
        return text
    for node in found:
        text = text[: node.start_mark.index] + '"127.0.0.1:0"' + text[node.end_mark.index :]
    return text


def _addresses(document: yaml.Node | None) -> Iterator[yaml.Node]:
    """The nodes of the values `addr` of every `http.service` and `http.admin`."""
    for entry in getattr(_fields(document).get("entries"), "value", []):
        fields = _fields(entry)
        kind, address = fields.get("kind"), fields.get("addr")
        if kind is not None and kind.value in ("http.service", "http.admin") and address is not None:
            yield address


def _fields(node: yaml.Node | None) -> dict[Any, yaml.Node]:
    return {key.value: value for key, value in node.value} if isinstance(node, yaml.MappingNode) else {}


def _document(entries: Sequence[Entry] | Mapping[str, Any], namespace: str) -> dict[str, Any]:
    if isinstance(entries, Mapping):
        if "entries" in entries:
            return dict(entries)
        entries = [{"name": name, **fields} for name, fields in entries.items()]
    return {"version": "1.0", "namespace": namespace, "entries": [dict(entry) for entry in entries]}
