"""The import rules of ARCHITECTURE.md, read from the sources. What `TYPE_CHECKING` guards counts too: a hidden cycle is a cycle."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("kernel", "gateway", "workers", "tools/faults")
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))

PURE = frozenset({
    "__future__", "abc", "array", "ast", "base64", "binascii", "bisect", "builtins", "codecs", "collections", "contextlib",
    "copy", "dataclasses", "difflib", "enum", "errno", "fractions", "functools", "graphlib", "hashlib", "heapq", "html",
    "http", "ipaddress", "itertools", "json", "keyword", "math", "numbers", "operator", "posixpath", "re", "reprlib",
    "signal", "statistics", "string", "struct", "textwrap", "token", "tokenize", "traceback", "types", "typing",
    "unicodedata", "urllib.parse", "warnings", "zlib",
})  # fmt: skip
"""Modules of the standard library that do no I/O, read no clock and draw no random number."""
NAMES_ONLY = {"signal": re.compile(r"SIG[A-Z0-9]+|Signals")}
"""Modules that perform, of which a core may use these names."""
PURE_LIBRARIES = frozenset({"wsproto", "h11", "msgpack", "yaml", "websockets.speedups"})
IMPURE_WIRE = frozenset(
    {
        f"wsrelay.kernel.wire.{name}"
        for name in ("channel", "journal", "failpoints", "log_writer", "logs", "privileges", "affinity")
    }
)
"""Parts of the wire that perform: not for a core."""
TRACERS = frozenset({"wsrelay.gateway.shell.spans", "wsrelay.workers.shell.spans"})
"""All that knows OpenTelemetry, so that nobody else needs the extra."""
KIT = "wsrelay.tools.faults"
FOR_USERS = frozenset({"wsrelay.workers.process", "wsrelay.workers.http"})
"""What users import: all that the kit sees of the packages, beside the wire."""


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(("wsrelay", *(parts[:-1] if parts[-1] == "__init__" else parts)))


def is_module(name: str) -> bool:
    place = ROOT.joinpath(*name.split(".")[1:])
    return place.is_dir() or place.with_suffix(".py").is_file()


def imports(name: str, is_package: bool, source: str) -> Iterator[str]:
    """Every module that `source` imports, by its absolute name, in the order of the lines."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = name.split(".")
                above = parts[: len(parts) - node.level + is_package]
                base = ".".join([*above, base] if base else above)
            for alias in node.names:
                whole = f"{base}.{alias.name}"
                yield whole if base.startswith("wsrelay") and is_module(whole) else base


def uses_beyond_names(source: str) -> Iterator[str]:
    """What `source` uses of the modules in `NAMES_ONLY` beside the names allowed there."""
    tree = ast.parse(source)
    bound = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in bound:
            module, names = node.value.id, [node.attr]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            module, names = node.module or "", [alias.name for alias in node.names]
        else:
            continue
        if allowed := NAMES_ONLY.get(module):
            yield from (f"{module}.{name}" for name in names if not allowed.fullmatch(name))


def within(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


def is_pure(module: str) -> bool:
    """Whether it decides and does not perform."""
    return ".core" in module or within(module, "wsrelay.tools.faults.checker")


def problem(importer: str, imported: str) -> str | None:
    """Why `importer` may not import `imported`; None if it may."""
    top = imported.partition(".")[0]
    if top == "opentelemetry" and importer not in TRACERS:
        return "only the modules for it import OpenTelemetry"
    if top != "wsrelay":
        standard = top in sys.stdlib_module_names
        if within(importer, "wsrelay.kernel.wire"):
            return None if standard or top == "msgpack" else "the wire imports the standard library and msgpack"
        if is_pure(importer):
            pure = (top in PURE or imported in PURE) if standard else not PURE_LIBRARIES.isdisjoint((top, imported))
            return None if pure else "a core imports nothing that does I/O"
        return None
    package = ".".join(importer.split(".")[:2])
    if within(imported, "wsrelay.kernel.wire"):
        if is_pure(importer) and imported in IMPURE_WIRE:
            return "a core imports nothing that does I/O"
        return None
    if within(importer, "wsrelay.kernel.wire"):
        return "the wire imports nothing else of the project"
    if within(importer, KIT):
        allowed = within(imported, KIT) or (imported in FOR_USERS and not is_pure(importer))
        return None if allowed else "the kit imports what users import, and the wire"
    if not within(imported, package):
        return "kernel, gateway and workers import only kernel.wire of each other"
    if within(importer, f"{package}.core") and not within(imported, f"{package}.core"):
        return "a core imports its own core"
    return None


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_follow_the_architecture(path: Path) -> None:
    name = module_name(path)
    found = imports(name, path.name == "__init__.py", path.read_text())
    problems = [f"{name} imports {module}: {why}" for module in found if (why := problem(name, module))]
    if ".core" in name:
        problems += [f"{name} uses {used}" for used in uses_beyond_names(path.read_text())]
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize(
    ("importer", "source"),
    [
        ("wsrelay.kernel.core.table", "import socket"),
        ("wsrelay.gateway.core.handshake_span", "from opentelemetry import trace"),
        ("wsrelay.gateway.shell.tracing", "def f():\n    from opentelemetry import trace"),
        ("wsrelay.kernel.core.table", "import time"),
        ("wsrelay.kernel.core.table", "from urllib import request"),
        ("wsrelay.kernel.core.table", "from ..shell import loop"),
        ("wsrelay.kernel.core.table", "from ..wire import channel"),
        ("wsrelay.kernel.core.table", "if TYPE_CHECKING:\n    from ...gateway.core import session"),
        ("wsrelay.gateway.core.session", "def f():\n    import uvicorn"),
        ("wsrelay.gateway.shell.server", "from ...workers import process"),
        ("wsrelay.workers.process", "from wsrelay.kernel.core import configuration"),
        ("wsrelay.kernel.wire.codec", "import yaml"),
        ("wsrelay.kernel.wire.codec", "from ..core import table"),
        ("wsrelay.tools.faults.runtime", "from ...kernel.shell import proc"),
        ("wsrelay.tools.faults.inside", "from wsrelay.workers.shell import runtime"),
        ("wsrelay.workers.shell.worker", "from ...tools.faults import points"),
        ("wsrelay.kernel.shell.supervisor", "from wsrelay.tools import faults"),
        ("wsrelay.kernel.core.table", "from ..wire import journal"),
        ("wsrelay.kernel.core.table", "from ..wire.failpoints import failpoint"),
        ("wsrelay.workers.shell.runtime", "from wsrelay.tools.faults import journal"),
        ("wsrelay.tools.faults.journal", "from ...kernel.core import table"),
        ("wsrelay.tools.faults.journal", "from ...workers.shell import runtime"),
        ("wsrelay.tools.faults.checker.world", "import os"),
    ],
)
def test_the_rules_catch(importer: str, source: str) -> None:
    assert any(problem(importer, module) for module in imports(importer, False, source))


@pytest.mark.parametrize(
    ("importer", "source"),
    [
        ("wsrelay.kernel.core.table", "from dataclasses import dataclass\nfrom ..wire.pid import Pid\nimport msgpack"),
        ("wsrelay.kernel.core.configuration.check", "from . import model\nfrom ...wire import configuration"),
        ("wsrelay.kernel.core.table", "from urllib.parse import quote"),
        ("wsrelay.gateway.core.session", "import wsproto.events"),
        ("wsrelay.workers.shell.spans", "from opentelemetry import trace\nfrom ..core import traces"),
        (
            "wsrelay.gateway.shell.server",
            "import uvicorn\nfrom ..core import session\nfrom ...kernel.wire import channel",
        ),
        ("wsrelay.kernel.wire.channel", "import socket\nimport msgpack"),
        (
            "wsrelay.tools.faults.runtime",
            "import psutil\nfrom ...kernel.wire import pid\nfrom ...workers import process",
        ),
        ("wsrelay.tools.faults.runtime", "from .waiting import wait_until"),
        ("wsrelay.tools.faults.journal", "import os\nimport pytest\nfrom ...workers import process"),
        (
            "wsrelay.tools.faults.checker.world",
            "from ....kernel.wire import journal_records\nfrom ..entry import Entry",
        ),
    ],
)
def test_the_rules_allow(importer: str, source: str) -> None:
    assert not any(problem(importer, module) for module in imports(importer, False, source))


def test_names_only_modules_are_watched() -> None:
    assert list(uses_beyond_names("import signal\nsignal.SIGKILL\nsignal.Signals(9)")) == []
    assert list(uses_beyond_names("import signal\nsignal.signal(2, f)")) == ["signal.signal"]
    assert list(uses_beyond_names("def f(signal):\n    signal.sender")) == []
    assert list(uses_beyond_names("from signal import SIGKILL, pause")) == ["signal.pause"]


@pytest.mark.parametrize("module", ["kernel.shell.boot", "gateway.shell.gateway", "workers.shell.host"])
def test_a_start_imports_nothing_that_is_rarely_needed(module: str) -> None:
    """Only what is asked for an `http.admin`, for `--version` and for spans imports what they need."""
    script = f"import sys, wsrelay.kernel.shell.command, wsrelay.{module}; print(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert f"wsrelay.{module}" in found
    assert {"psutil", "opentelemetry"}.isdisjoint(found)
    assert "gateway" in module or "importlib.metadata" not in found  # `websockets` reads its own version there
