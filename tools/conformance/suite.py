"""Finds, installs and runs the Autobahn Testsuite, which needs a Python 2.7."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / ".tools" / "autobahn"
"""Where it is installed. Git ignores it."""
COMMAND = FOLDER / "suite" / "bin" / "wstest"

INSTALL_TIMEOUT = 600.0
AGENT = "wsrelay"


class SuiteError(Exception):
    """The suite could not be installed, or did not run to its end. The text says what to do."""


def is_installed() -> bool:
    """Whether the suite can run."""
    return COMMAND.exists()


def install() -> None:
    """Install the suite into `FOLDER`. Raises SuiteError."""
    if is_installed():
        return
    python = find_python()
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    tool = FOLDER / "virtualenv"
    # The last virtualenv that makes environments of Python 2.7, and the last setuptools that it works with.
    _run(sys.executable, "-m", "venv", str(tool))
    _run(str(tool / "bin" / "pip"), "install", "--quiet", "virtualenv==20.21.1", "setuptools<81")
    _run(str(tool / "bin" / "virtualenv"), "--quiet", "-p", python, str(FOLDER / "suite"))
    _run(str(FOLDER / "suite" / "bin" / "pip"), "install", "--quiet", "autobahntestsuite==0.8.2")
    if not is_installed():
        raise SuiteError(f"everything installed, and yet there is no {COMMAND}")


def find_python() -> str:
    """The path of a Python 2.7, which root on Debian may get from its packages. Raises SuiteError."""
    for candidate in _candidates():
        if _is_python_27(candidate):
            return candidate
    if os.geteuid() == 0 and shutil.which("apt-get"):
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        command = ["apt-get", "install", "-y", "--no-install-recommends", "python2.7", "python2.7-dev", "gcc"]
        subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, check=False)
        if (found := shutil.which("python2.7")) and _is_python_27(found):
            return found
    raise SuiteError(
        "the Autobahn Testsuite needs a Python 2.7, and none was found: not as python2.7 or python2 on PATH, not among the "
        "versions of pyenv, and not among the system's packages. 'pyenv install 2.7.18' makes one."
    )


def _candidates() -> Iterator[str]:
    for name in ("python2.7", "python2"):
        if found := shutil.which(name):
            yield found
    roots = [os.environ.get("PYENV_ROOT"), str(Path.home() / ".pyenv"), "/opt/pyenv", "/usr/local/pyenv"]
    for root in filter(None, roots):
        yield from map(str, sorted(Path(root).glob("versions/2.7*/bin/python2.7"), reverse=True))


def _is_python_27(path: str) -> bool:
    # A shim of pyenv is on PATH also where it leads nowhere.
    try:
        command = [path, "-c", "import sys; sys.exit(sys.version_info[:2] != (2, 7))"]
        return subprocess.run(command, capture_output=True, timeout=30, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def _run(*command: str) -> None:
    environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1", "PYTHONWARNINGS": "ignore"}
    environment.pop("PYTHONPATH", None)
    done = subprocess.run(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=INSTALL_TIMEOUT,
        check=False,
    )
    if done.returncode:
        raise SuiteError(f"this failed: {' '.join(command)}\n{done.stdout}{done.stderr}".rstrip())


def run(url: str, cases: list[str], folder: Path, timeout: float) -> dict[str, Any]:
    """Run these cases against a server; the suite writes its pages into `folder`. Returns its index. Raises SuiteError."""
    specification = folder / "specification.json"
    output = folder / "reports"
    specification.write_text(
        json.dumps(
            {
                "options": {"failByDrop": False},
                "outdir": str(output),
                "servers": [{"agent": AGENT, "url": url, "options": {"version": 18}}],
                "cases": cases,
                "exclude-cases": [],
                "exclude-agent-cases": {},
            }
        )
    )
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    environment.pop("PYTHONPATH", None)
    command = [str(COMMAND), "-m", "fuzzingclient", "-s", str(specification)]
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise SuiteError(f"the suite did not end within {timeout:g} s") from None
    index = output / "index.json"
    if done.returncode or not index.exists():
        said = done.stdout.decode(errors="replace")[-2000:]
        raise SuiteError(f"the suite ended with {done.returncode} and without a result:\n{said}")
    found: dict[str, Any] = json.loads(index.read_text())
    return found
