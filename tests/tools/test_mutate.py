"""The list of tools/mutate fits the tree, and what tools/mutate concludes. The mutations themselves are run by hand."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from mutation import execution
from mutation.__main__ import exit_status, table
from mutation.catalogue.every import MUTATIONS
from mutation.contained import TIME_IS_UP
from mutation.execution import Outcome, copy_of, judge, run
from mutation.model import Mutation, problems

ROOT = Path(__file__).resolve().parents[2]
CAUGHT = Outcome("one", "S1", "caught", "tests/a.py::test_a", 1.0)
SURVIVED = Outcome("two", "S2", "survived", "no test fails", 2.0)
BROKEN = Outcome("three", "S3", "broken", "pytest ended with 2", 3.0)


def test_the_list_fits_the_tree() -> None:
    """Every old text is in its file exactly once, every new text compiles, every test is there."""
    assert problems(ROOT, MUTATIONS) == []


def test_every_mutation_breaks_a_rule_that_there_is() -> None:
    rules = set(re.findall(r"\*\*(S\d+a?)\b", (ROOT / "docs" / "semantics.md").read_text()))
    invariants = {f"invariant {number}" for number in range(1, 16)}
    assert {mutation.rule for mutation in MUTATIONS} <= rules | invariants
    assert invariants <= {mutation.rule for mutation in MUTATIONS}


def test_the_list_covers_every_part() -> None:
    folders = {str(Path(mutation.file).parent) for mutation in MUTATIONS}
    wanted = {f"{package}/{part}" for package in ("kernel", "gateway", "workers") for part in ("core", "shell")}
    assert wanted | {"kernel/wire", "tools/faults/checker"} <= folders


def test_what_is_wrong_with_a_list_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("one = 1\ntwo = 1\n")

    def wrong(old: str, new: str = "2", file: str = "a.py", tests: tuple[str, ...] = ("a.py",)) -> str:
        return "\n".join(problems(tmp_path, (Mutation("m", "S1", file, old, new, tests),)))

    assert wrong("one = 1", "one = 2") == ""
    assert "the old text 0 times" in wrong("three")
    assert "the old text 2 times" in wrong("= 1")
    assert "invalid syntax" in wrong("one = 1", "one =")
    assert "there is no file b.py" in wrong("one", file="b.py")
    assert "there is no b.py" in wrong("one", tests=("b.py::test_b",))
    assert "names no test" in wrong("one", tests=())
    twice = Mutation("m", "S1", "a.py", "one = 1", "one = 2", ("a.py",))
    assert "used twice" in problems(tmp_path, (twice, twice))[0]


def test_what_pytest_says_is_judged() -> None:
    """A mutation that keeps the tests from running has not been caught by them."""
    failed = "...\nFAILED tests/a.py::test_a[x] - assert 0\nFAILED tests/a.py::test_b\n"
    assert judge("m", "S1", 1, failed, 1.0).by == "tests/a.py::test_a[x]"
    assert judge("m", "S1", 0, "", 1.0).verdict == "survived"
    assert judge("m", "S1", TIME_IS_UP, "", 1.0).verdict == "caught"
    assert judge("m", "S1", 2, "ERROR tests/a.py - SyntaxError", 1.0).verdict == "broken"
    assert judge("m", "S1", 1, "", 1.0).verdict == "broken"


def test_the_exit_status_and_the_table() -> None:
    assert [exit_status([CAUGHT]), exit_status([CAUGHT, SURVIVED]), exit_status([BROKEN, SURVIVED])] == [0, 1, 2]
    assert "tests/a.py::test_a" in table([CAUGHT, SURVIVED])
    assert "SURVIVED" in table([CAUGHT, SURVIVED])


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A project of one module and one test, which starts a process that moves away and stays."""
    (tmp_path / "kernel").mkdir()
    (tmp_path / "tests").mkdir()
    (tmp_path / "kernel" / "answer.py").write_text("ANSWER = 42\n")
    (tmp_path / "tests" / "test_answer.py").write_text(
        "import subprocess\n"
        "from wsrelay.kernel.answer import ANSWER\n"
        "def test_answer() -> None:\n"
        "    subprocess.Popen(['sleep', '3217'], start_new_session=True)\n"
        "    assert ANSWER == 42\n"
    )
    return tmp_path


def test_a_copy_is_mutated_run_and_cleaned_up(tree: Path) -> None:
    """The copy is what its tests import; the tree stays as it is; nothing that was started lives on."""
    wrong = Mutation("wrong", "S1", "kernel/answer.py", "42", "43", ("tests/test_answer.py",))
    harmless = Mutation("harmless", "S1", "kernel/answer.py", "42", "40 + 2", ("tests/test_answer.py",))
    with copy_of(tree) as copy:
        caught = run(copy, wrong, wrong.tests, 120)
        assert (caught.verdict, caught.by) == ("caught", "tests/test_answer.py::test_answer")
        assert run(copy, harmless, harmless.tests, 120).verdict == "survived"
    assert (tree / "kernel" / "answer.py").read_text() == "ANSWER = 42\n"
    assert not copy.exists()
    assert not [one for one in psutil.process_iter(["cmdline"]) if one.info["cmdline"] == ["sleep", "3217"]]


def test_what_takes_too_long_is_killed() -> None:
    command = [sys.executable, str(ROOT / "tools" / "mutation" / "contained.py"), "0.2", "sleep", "3217"]
    assert subprocess.run(command, check=False).returncode == TIME_IS_UP


def test_the_packages_are_laid_out_as_installed() -> None:
    installed = re.findall(r"^    wsrelay\.(\S+) = (\S+)$", (ROOT / "setup.cfg").read_text(), re.MULTILINE)
    assert {path for name, path in installed if name.replace(".", "/") == path} == set(execution.PACKAGES)
