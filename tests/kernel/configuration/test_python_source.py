"""What a module binds, found without importing it."""

from __future__ import annotations

import types

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsrelay.kernel.core.configuration.python_source import Bindings, Unparsable, read_bindings


@pytest.mark.parametrize(
    "source",
    [
        "def f(): ...",
        "async def f(): ...",
        "class f: ...",
        "f = 1",
        "f: int = 1",
        "a, (b, *f) = x",
        "import f",
        "import f.g",
        "import a.b as f",
        "from a import f",
        "from a import b as f",
        "if x:\n    pass\nelif y:\n    def f(): ...",
        "try:\n    import a\nexcept ImportError:\n    f = None",
        "try:\n    import a\nfinally:\n    f = None",
        "with x as f: ...",
        "with x:\n    f = 1",
        "for f in x: ...",
        "while x:\n    f = 1",
        "print(f := 1)",
        "[f := a for a in b]",
        "match x:\n    case [1, *f]: ...",
        "match x:\n    case {'a': 1, **f}: ...",
        "match x:\n    case int() as f: ...",
        "def g():\n    global f\n    f = 1",
    ],
)
def test_bound(source: str) -> None:
    bindings = read_bindings(source.encode())
    assert isinstance(bindings, Bindings)
    assert "f" in bindings.names
    assert not bindings.open


@pytest.mark.parametrize(
    "source",
    [
        "",
        "def g():\n    def f(): ...",
        "class g:\n    def f(self): ...",
        "lambda: (f := 1)",
        "f: int",
        "x.f = 1",
        "[f for f in x]",
        "import a.f",
        "f",
    ],
)
def test_not_bound(source: str) -> None:
    bindings = read_bindings(source.encode())
    assert isinstance(bindings, Bindings)
    assert "f" not in bindings.names
    assert not bindings.open


@pytest.mark.parametrize("source", ["from a import *", "def __getattr__(name): ...", "if x:\n    from a import *"])
def test_open(source: str) -> None:
    bindings = read_bindings(source.encode())
    assert isinstance(bindings, Bindings)
    assert bindings.open


@pytest.mark.parametrize(
    ("source", "line", "column"),
    [
        (b"a = 1\nb = = 2", 2, 5),
        (b"a\x00b", 1, 1),
        (b"\xff", 1, 1),
        (b"(" * 100_000, 1, 1),
        (b"-" * 100_000 + b"1", 1, 1),
    ],
)
def test_no_python(source: bytes, line: int, column: int) -> None:
    result = read_bindings(source)
    assert isinstance(result, Unparsable)
    assert result.line == line
    assert result.column >= column


def test_a_warning_is_no_problem() -> None:
    assert isinstance(read_bindings(b"f = '\\d'"), Bindings)


STATEMENTS = st.recursive(
    st.sampled_from("abc").flatmap(
        lambda name: st.sampled_from([
            f"{name} = 1", f"def {name}(): x = 1", f"class {name}: y = 2", f"import sys as {name}",
            f"for {name} in [1]: pass", f"[z for z in [1]]; {name} = 2", f"({name} := 3)",
        ])
    ),
    lambda inner: st.lists(inner, min_size=1, max_size=3).flatmap(
        lambda body: st.sampled_from(["if True:", "for k in [1]:", "while True:"]).map(
            lambda head: "\n".join([head, *("    " + line for text in body for line in text.split("\n"))])
            + ("\n    break" if head.startswith("while") else "")
        )
    ),
    max_leaves=6,
)  # fmt: skip


@given(st.lists(STATEMENTS, max_size=4).map("\n".join))
def test_what_running_the_module_binds_is_found(source: str) -> None:
    module = types.ModuleType("example")
    exec(source, module.__dict__)
    bound = set(vars(module)) - set(vars(types.ModuleType("example"))) - {"__builtins__"}
    bindings = read_bindings(source.encode())
    assert isinstance(bindings, Bindings)
    assert bound == bindings.names
