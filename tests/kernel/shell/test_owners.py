"""What a supervisor does that may change user and is not root: it acts on files as their owner; and capabilities that are given up. In a
process with such ambient capabilities."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

OURS, THEIRS = 61001, 61002
"""Users that nobody has."""
CAPABILITIES = "+setuid,+setgid,+kill"
needs_root = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("setpriv") is None,
    reason="needs root and setpriv, to have capabilities as another",
)


def run(folder: Path, script: str) -> str:
    """Run a script as `OURS` with these capabilities, in a folder of its own. Returns what it prints."""
    folder.chmod(0o755)
    for path in folder.parents:
        if path != Path("/"):
            path.chmod(path.stat().st_mode | 0o011)
    home = folder / "ours"
    home.mkdir()
    os.chown(home, OURS, OURS)
    confine = ["setpriv", f"--reuid={OURS}", f"--regid={OURS}", "--clear-groups"]
    confine += [f"--inh-caps={CAPABILITIES}", f"--ambient-caps={CAPABILITIES}"]
    done = subprocess.run(
        [*confine, sys.executable, "-c", script], cwd=home, env={"TMPDIR": str(home)}, capture_output=True, text=True,
        check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@needs_root
def test_folders_of_another_user_are_made_measured_and_removed_without_capabilities_over_files(tmp_path: Path) -> None:
    run(
        tmp_path,
        f"""
import os
from wsrelay.kernel.shell.disk import Disk
from wsrelay.kernel.shell.owners import acting_as
from wsrelay.kernel.shell.temporary import TemporaryFolders, make_base
from wsrelay.kernel.wire.configuration import HostConfiguration, Identity

folders = TemporaryFolders(make_base([HostConfiguration("a:b", private_tmp=True, user="them")]))
folders.make(1, Identity({THEIRS}, {THEIRS}, ({THEIRS},), "them", "/"))
folders.make(2, None)
path = folders.path(1)
assert (os.stat(path).st_uid, os.stat(path).st_mode & 0o777) == ({THEIRS}, 0o700)
try:
    os.listdir(path)
except PermissionError:
    pass
else:
    raise AssertionError("it is private")
with acting_as({THEIRS}):
    os.makedirs(path + "/closed/inner")
    with open(path + "/closed/inner/file", "wb") as file:
        file.write(bytes(1 << 20))
    with open(path + "/precious", "wb") as file:
        pass
    os.symlink("/etc", path + "/link")
disk = Disk(path)
for _ in disk.look([os.getpid()]):
    pass
assert 1 << 20 <= disk.used < 2 << 20, disk.used
with acting_as({THEIRS}):
    os.chmod(path + "/closed/inner", 0)
    os.chmod(path + "/closed", 0)
folders.remove(1)
folders.close()
assert os.listdir(".") == [], os.listdir(".")
""",
    )


@needs_root
def test_capabilities_are_gone_for_good(tmp_path: Path) -> None:
    script = """
import subprocess
from wsrelay.kernel.wire.privileges import drop_capabilities
count = lambda: print(*[line.split()[1].strip("0") or "none" for line in open("/proc/self/status") if line.startswith(
    ("CapInh", "CapPrm", "CapEff", "CapAmb"))])
count()
drop_capabilities()
count()
drop_capabilities()
print(subprocess.run(["grep", "CapPrm", "/proc/self/status"], capture_output=True, text=True).stdout.split()[1].strip("0"))
"""
    before, after, executed = run(tmp_path, script).splitlines()
    assert before == "e e e e"  # CAP_KILL, CAP_SETGID, CAP_SETUID: bits 5 to 7
    assert after == "none none none none"
    assert executed == ""
