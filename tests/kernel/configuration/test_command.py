"""The command line, and the files it finds."""

from __future__ import annotations

import os
import sys
import types
from pathlib import Path

import pytest
from wsrelay.kernel.shell.command import main
from wsrelay.kernel.wire.configuration import Application

GOOD = 'version: "1.0"\nnamespace: {}\nentries:\n  - {{name: work, kind: process.python, source: "file://work.py", method: run}}\n'
SUMMARY = "ok: 0 servers, 0 routes, 0 hosts, 0 functions, {} process{}\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("one", "two/below"):
        place = tmp_path / name
        place.mkdir(parents=True)
        (place / "_index.yaml").write_text(GOOD.format(place.name))
        (place / "work.py").write_text("def run(): ...\n")
    (tmp_path / "two" / "other.yaml").write_text("not read: [")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Application, str]]:
    """What a supervisor that returns 7 was asked to serve."""
    calls: list[tuple[Application, str]] = []

    def serve(
        application: Application, paths: list[str], *, log_level: str, log_format: str, run_directory: str | None
    ) -> int:
        assert (paths, log_format, run_directory) == (["one"], "auto", None)
        calls.append((application, log_level))
        return 7

    boot = types.ModuleType("wsrelay.kernel.shell.boot")
    boot.__dict__["serve"] = serve
    monkeypatch.setitem(sys.modules, boot.__name__, boot)
    return calls


def test_check_of_folders_and_files(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "."]) == 0
    assert capsys.readouterr() == (SUMMARY.format(2, "es"), "")
    assert main(["check", "one/_index.yaml", str(folder / "one")]) == 0
    assert capsys.readouterr() == (SUMMARY.format(1, ""), "")


def test_check_prints_every_mistake(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "one" / "work.py").write_text("def run(:\n")
    (folder / "two" / "below" / "work.py").unlink()
    (folder / "empty").mkdir()
    assert main(["check", "two", "one", "empty", "nowhere"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "empty: there is no _index.yaml in this folder or below it",
        "nowhere: there is no such file or folder",
        "one/work.py:1:9: not valid Python: invalid syntax",
        f"two/below/_index.yaml:4:48: source: there is no file '{folder}/two/below/work.py' that can be read",
    ]


def test_a_source_that_is_no_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "one" / "work.py").unlink()
    (folder / "one" / "work.py").mkdir()
    assert main(["check", "one"]) == 1
    assert "there is no file" in capsys.readouterr().err


def test_run_serves_a_good_configuration(folder: Path, served: list[tuple[Application, str]]) -> None:
    assert main(["run", "one", "--log-level", "debug"]) == 7
    ((application, log_level),) = served
    assert application.processes["one:work"].source == f"file://{folder}/one/work.py"
    assert log_level == "debug"


def test_run_starts_nothing_with_a_mistake(
    folder: Path, served: list[tuple[Application, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "one" / "_index.yaml").write_text("version: 1.0\nnamespace: a\nentries: 3\n")
    assert main(["run", "one"]) == 1
    assert served == []
    assert capsys.readouterr().err == "one/_index.yaml:3:10: entries: expected a list, got 3\n"


@pytest.mark.parametrize(
    "arguments", [[], ["check"], ["run"], ["begin", "x"], ["start"], ["run", "x", "--log-level", "loud"]]
)
def test_wrong_arguments(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit:
        main(arguments)
    assert exit.value.code == 2
    assert "usage: wsrelay" in capsys.readouterr().err


@pytest.mark.parametrize(("argument", "shown"), [("--version", "wsrelay "), ("--help", "usage: wsrelay")])
def test_version_and_help(argument: str, shown: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit:
        main([argument])
    assert exit.value.code == 0
    assert capsys.readouterr().out.startswith(shown)


def test_what_is_no_file_is_not_waited_for(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    index = folder / "one" / "_index.yaml"
    index.unlink()
    os.mkfifo(index)
    with os.fdopen(os.open(index, os.O_RDWR), "w") as line:  # lest the old code wait for ever: it reads a mistake
        line.write("nothing: [")
        line.flush()
        assert main(["check", "one"]) == 1
    assert capsys.readouterr().err == "one/_index.yaml: the file cannot be read\n"
