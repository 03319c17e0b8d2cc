"""`tools/cgroup-test`: how its virtual machine is told what to do, and what is made of its answer; not the machine itself."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import virtual_machine as machine

ROOT = Path(__file__).resolve().parents[2]


def unquoted(unit: str) -> str:
    """The script of the unit, as systemd reads it: systemd.syntax(7), systemd.service(5)."""
    [line] = [line for line in unit.splitlines() if line.startswith("ExecStart=")]
    text = line.removeprefix('ExecStart=/bin/sh -c "').removesuffix('"').replace("%%", "%").replace("$$", "$")
    return text.encode().decode("unicode_escape")


def test_the_unit_runs_the_command_with_its_words_as_they_are(tmp_path: Path) -> None:
    words = ["two words", 'a "quote"', "it's", "$HOME", "100%", "back\\slash"]
    script = unquoted(
        machine.render_unit([sys.executable, "-c", "import sys; print(sys.argv[1:]); sys.exit(3)", *words])
    )
    line = tmp_path / "line"
    subprocess.run(["/bin/sh", "-c", script.replace("/dev/ttyS1", shlex.quote(str(line)))], check=True, timeout=60)
    booted, printed, status = line.read_text().splitlines()
    assert booted == machine.BOOTED
    assert printed == str(words)
    assert machine.exit_status(status) == 3


@pytest.mark.parametrize("line", ["ok      a check (1.0 s)", machine.STATUS, machine.STATUS + "much", machine.BOOTED])
def test_only_its_own_line_is_the_exit_status(line: str) -> None:
    assert machine.exit_status(line) is None


def test_the_machine_is_asked_for_hardware_help_only_by_the_option() -> None:
    paths = [Path(name) for name in ("kernel", "initrd", "disk", "console")]
    plain, helped = (machine.machine_command(how, *paths) for how in ("tcg", "kvm"))
    assert "tcg,thread=multi" in plain
    assert "kvm" not in " ".join(plain)
    assert helped[helped.index("-accel") + 1] == "kvm"


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="there is no setpriv")
@pytest.mark.parametrize(
    ("script", "seconds", "expected", "told"),
    [
        (
            f"echo '{machine.BOOTED}'; echo hello; echo '{machine.STATUS}0'; exec cat /dev/zero >/dev/null",
            60.0,
            0,
            "hello\n",
        ),
        (f"echo hello; echo '{machine.STATUS}1'", 60.0, 1, "hello\n"),
        ("echo hello", 60.0, 1, "hello\nit ended"),
        ("exec cat /dev/zero >/dev/null", 0.2, 1, "time is over"),
    ],
)
def test_what_becomes_of_the_machine(
    script: str, seconds: float, expected: int, told: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    console = tmp_path / "console"
    console.write_text("it ended\n")
    assert machine.run(["/bin/sh", "-c", script], console, seconds) == expected
    output, errors = capfd.readouterr()
    assert told in output + errors


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="there is no setpriv")
def test_a_kernel_that_panics_is_told_of(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    console = tmp_path / "console"
    console.write_text(
        "[   30.4] Kernel panic - not syncing: Fatal exception in interrupt\n[   32.4] Shutting down cpus with NMI\n"
    )
    assert machine.run(["/bin/sh", "-c", "exit 0"], console, 60.0) == 1
    assert (
        "virtual-machine: its kernel has panicked - not syncing: Fatal exception in interrupt\n"
        in capfd.readouterr().err
    )


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="there is no setpriv")
def test_a_machine_that_ends_a_moment_after_its_output_has_ended(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    slow = "exec >&-; sleep 0.2"
    assert machine.run(["/bin/sh", "-c", slow], tmp_path / "console", 60.0) == 1
    assert "it has ended by itself" in capfd.readouterr().err


NO_MSR = "qemu-system-x86_64: error: failed to set MSR 0x10a to 0x69"
SUSPENDED = "KVM internal error. Suberror: 1"
NO_DEVICE = "qemu-system-x86_64: failed to initialize kvm: Permission denied"


@pytest.mark.parametrize("line", [NO_MSR, SUSPENDED, NO_DEVICE])
def test_qemu_says_that_there_is_no_help(line: str) -> None:
    assert machine.tells_of_no_help(line)
    assert machine.why_no_help(line, "Linux version 6", ended=False) == line


@pytest.mark.parametrize(
    "line",
    [
        "ok      failed to set MSR",
        "qemu-system-x86_64: warning: host doesn't support requested feature: MSR(48FH)",
        "qemu-system-x86_64: Could not open 'disk': No such file or directory",
    ],
)
def test_what_else_is_said_is_no_sign_of_it(line: str) -> None:
    assert not machine.tells_of_no_help(line)
    assert machine.why_no_help(line, "Linux version 6", ended=True) is None


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="there is no setpriv")
@pytest.mark.parametrize(
    ("script", "console", "expected", "told"),
    [
        (f"echo '{NO_MSR}' >&2; exec cat /dev/zero >/dev/null", "", 77, NO_MSR),
        (f"echo '{machine.BOOTED}'; echo '{SUSPENDED}' >&2; exec cat /dev/zero >/dev/null", "Linux", 77, SUSPENDED),
        ("exec cat /dev/zero >/dev/null", "", 77, "no line of the console in "),
        ("exit 1", "", 77, "no line of the console in |qemu has ended before "),
        ("echo hello", "Linux", 1, "Linux\nvirtual-machine: "),
        (f"timeout 0.3 cat /dev/zero >/dev/null; echo '{machine.STATUS}0'", "Linux", 0, ""),  # silent for longer
    ],
)
def test_what_becomes_of_a_machine_without_the_help_that_it_asks_for(
    script: str,
    console: str,
    expected: int,
    told: str,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(machine, "SIGN", 0.1)
    written = tmp_path / "console"
    written.write_text(console)
    assert machine.run(["/bin/sh", "-c", script], written, 60.0, helped=True) == expected
    errors = capfd.readouterr().err
    assert any(one in errors for one in told.split("|"))
    assert ("without --kvm it works" in errors) is (expected == machine.CANNOT)


def test_where_there_is_no_virtual_machine_it_says_so(tmp_path: Path) -> None:
    for name in ("bash", "dirname", "uname", "id"):
        found = shutil.which(name)
        assert found is not None
        (tmp_path / name).symlink_to(found)
    done = subprocess.run(
        [shutil.which("bash") or "bash", ROOT / "tools" / "cgroup-test"],
        env={"PATH": str(tmp_path), "HOME": os.environ.get("HOME", "/")},
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 77, done.stderr
    assert done.stderr.startswith("cannot run a virtual machine here: ")


def test_wrong_arguments_are_refused() -> None:
    for arguments in (["--nothing"], ["--suite", "../etc"], ["--seconds", "soon"], ["--seconds"]):
        done = subprocess.run(
            [ROOT / "tools" / "cgroup-test", *arguments], capture_output=True, check=False, timeout=60
        )
        assert done.returncode == 2, arguments
