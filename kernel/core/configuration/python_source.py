"""What a Python source binds at its top level, found without importing it.

Owns the walk over the syntax tree. Knows nothing of entries. A star import or a module's `__getattr__` leaves open what the
module has, and then every name passes.
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)


@dataclass(frozen=True, slots=True)
class Bindings:
    """The names a module has; `open` if there may be others."""

    names: frozenset[str]
    open: bool


@dataclass(frozen=True, slots=True)
class Unparsable:
    """The source is no Python; line and column count from 1."""

    line: int
    column: int
    message: str


def read_bindings(source: bytes) -> Bindings | Unparsable:
    """Find what the module binds."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(source)
        names = frozenset(_bound_in(tree.body))
    except SyntaxError as error:
        return Unparsable(max(error.lineno or 1, 1), max(error.offset or 1, 1), error.msg)
    except (ValueError, RecursionError, MemoryError) as error:
        return Unparsable(1, 1, str(error) or "nested too deeply")
    return Bindings(names - {"*"}, "*" in names or "__getattr__" in names)


def _bound_in(nodes: list[ast.stmt]) -> Iterator[str]:
    for node in nodes:
        yield from _bound_by(node)


def _bound_by(node: ast.AST) -> Iterator[str]:
    """Yield the names that this node binds in its own scope; `*` for a star import."""
    match node:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            yield name
        case ast.Import(names=names) | ast.ImportFrom(names=names):
            yield from (alias.asname or alias.name.partition(".")[0] for alias in names)
        case ast.Name(id=name, ctx=ast.Store()):
            yield name
        case ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)) | ast.MatchMapping(rest=str(name)):
            yield name
        case _:
            pass
    if isinstance(node, _SCOPES):
        yield from _declared_global(node)
    elif not (isinstance(node, ast.AnnAssign) and node.value is None):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.comprehension):  # its target is a scope of its own
                yield from _bound_by(child.iter)
            else:
                yield from _bound_by(child)


def _declared_global(scope: ast.AST) -> Iterator[str]:
    for node in ast.walk(scope):
        if isinstance(node, ast.Global):
            yield from node.names
