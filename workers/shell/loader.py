"""From a source and a method to the callable: `file:///path/chat.py` or `python://package.module`.

A file is imported under its own name, with its folder on the path, so that its siblings can be imported, and can import it.
Where that name is taken by another module, it gets a name of its own.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import os
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

FILE = "file://"
MODULE = "python://"

_loaded: dict[str, ModuleType] = {}


def load_entry(source: str, method: str) -> Callable[..., Any]:
    """Return the callable of an entry. Raises ImportError if there is none, and whatever the import raises."""
    found: Any = load_module(source)
    for name in method.split("."):
        try:
            found = getattr(found, name)
        except AttributeError:
            raise ImportError(f"{source} has no {method!r}") from None
    if not callable(found):
        raise ImportError(f"{method!r} of {source} is a {type(found).__name__}: expected a function")
    made: Callable[..., Any] = found
    return made


def load_module(source: str) -> ModuleType:
    """Import a source, once. Raises ImportError if it does not exist, and whatever the import raises."""
    module = _loaded.get(source)
    if module is None:
        if source.startswith(FILE):
            module = _load_file(source.removeprefix(FILE))
        elif source.startswith(MODULE):
            module = importlib.import_module(source.removeprefix(MODULE))
        else:
            raise ImportError(
                f"expected a source such as file:///path/chat.py or python://package.module, got {source!r}"
            )
        _loaded[source] = module
    return module


def _load_file(path: str) -> ModuleType:
    if not os.path.isfile(path):
        raise ImportError(f"there is no source file {path}")
    folder, file_name = os.path.split(os.path.abspath(path))
    if folder not in sys.path:
        sys.path.insert(0, folder)
        importlib.invalidate_caches()
    name, suffix = os.path.splitext(file_name)
    if suffix == ".py" and name.isidentifier() and _is_module_of(name, path):
        return importlib.import_module(name)
    return _import_file(f"wsrelay_source_{len(_loaded)}_{name}", path)


def _is_module_of(name: str, path: str) -> bool:
    """Whether `import name` gives the file at `path`."""
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return False
    return spec is not None and spec.origin is not None and os.path.realpath(spec.origin) == os.path.realpath(path)


def _import_file(name: str, path: str) -> ModuleType:
    loader = importlib.machinery.SourceFileLoader(name, path)
    spec = importlib.util.spec_from_file_location(name, path, loader=loader)
    if spec is None:
        raise ImportError(f"{path} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
