"""The digest of a host's code: another one exactly if what was imported is another."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from wsrelay.workers.shell.fingerprint import fingerprint
from wsrelay.workers.shell.loader import load_module


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "digested_helper.py").write_text("a = 1\n")
    (tmp_path / "digested.py").write_text("import digested_helper\n")
    before, path = set(sys.modules), sys.path[:]
    yield tmp_path
    sys.path[:] = path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_every_imported_file_counts(folder: Path) -> None:
    sources = (f"file://{folder}/digested.py", "python://json", f"file://{folder}/missing.py")
    before = set(sys.modules)
    apart = fingerprint(sources, before)
    load_module(sources[0])
    first = fingerprint(sources, before)
    assert first == fingerprint(sources, before) != apart
    for name in ("digested_helper.py", "digested.py"):
        text = (folder / name).read_text()
        (folder / name).write_text(text + "# more\n")
        assert fingerprint(sources, before) != first
        (folder / name).write_text(text)
        assert fingerprint(sources, before) == first, "by content, not by time"


def test_a_source_that_is_not_imported_counts_by_its_file(folder: Path) -> None:
    sources = (f"file://{folder}/digested.py",)
    before = set(sys.modules)
    first = fingerprint(sources, before)
    (folder / "digested_helper.py").write_text("a = 2\n")
    assert fingerprint(sources, before) == first
    (folder / "digested.py").write_text("")
    assert fingerprint(sources, before) != first


def test_what_of_the_standard_library_is_new_depends_on_others(folder: Path) -> None:
    # A library that was imported before may have imported it: tracing that is turned on is no new code.
    (folder / "digested.py").write_text("import this_is_mine\nimport colorsys\n")
    (folder / "this_is_mine.py").write_text("")
    sources = (f"file://{folder}/digested.py",)
    before = set(sys.modules) - {"colorsys"}
    load_module(sources[0])
    assert "colorsys" in sys.modules
    assert fingerprint(sources, before) == fingerprint(sources, before | {"colorsys"})
    assert fingerprint(sources, before) != fingerprint(sources, before | {"this_is_mine"})
