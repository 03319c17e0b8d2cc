"""Installs the peers that are not there: apt-get for nginx, websocketd, Pushpin and Node, npm for ws, pip for the rest.

And what the bench itself needs: a C compiler for the load generator, strace.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

from ..load import compiled
from . import foreign

COMPILER = "cc"
PACKAGES = {
    "nginx": ["nginx-light"],
    "websocketd": ["websocketd"],
    "pushpin": ["pushpin"],
    "node": ["nodejs"],
    "npm": ["npm"],
    "strace": ["strace"],
    COMPILER: list(compiled.PACKAGES),
}
PLAIN = foreign.TOOLS / "plain"
"""An environment with this project and without its extra `speed`."""
TIMEOUT = 900


def install() -> list[str]:
    """Install what can be installed. Returns what could not be, as lines."""
    problems = install_packages()
    if shutil.which("npm"):
        folder = foreign.NODE_MODULES.parent
        folder.mkdir(parents=True, exist_ok=True)
        problems += _run(["npm", "install", "--no-audit", "--no-fund", "--silent", "--prefix", str(folder), "ws@8"])
    problems += _run([sys.executable, "-m", "pip", "install", "--quiet", "--editable", f"{foreign.ROOT}[speed,bench]"])
    return problems


def install_packages() -> list[str]:
    """Install Debian's packages. Returns what could not be, as lines."""
    path = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"
    lacking = [command for command in PACKAGES if command != COMPILER and not shutil.which(command, path=path)]
    if not compiled.can_compile():  # there may be one without the headers that it needs
        lacking.append(COMPILER)
    if not lacking:
        return []
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        names = " ".join(package for command in lacking for package in PACKAGES[command])
        return [f"{', '.join(lacking)}: to be installed as root: apt-get install {names}"]
    problems = _run(["apt-get", "update", "-q"])
    for command in lacking:
        problems += _run(["apt-get", "install", "-q", "-y", "--no-install-recommends", *PACKAGES[command]])
    return problems


def plain_python() -> str:
    """The Python of an environment without the extra, which is made when it is missing. Raises RuntimeError."""
    python = PLAIN / "bin" / "python"
    if not (PLAIN / "bin" / "wsrelay").exists():
        shutil.rmtree(PLAIN, ignore_errors=True)
        venv.create(PLAIN, with_pip=True)
        problems = _run([str(python), "-m", "pip", "install", "--quiet", "--editable", str(foreign.ROOT)])
        if problems:
            raise RuntimeError("\n".join(problems))
    return str(python)


def _run(command: list[str]) -> list[str]:
    """Run a command that asks nothing; returns what it says if it fails."""
    environment = {
        **os.environ,
        "DEBIAN_FRONTEND": "noninteractive",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_NO_INPUT": "1",
        "PIP_ROOT_USER_ACTION": "ignore",
    }
    try:
        done = subprocess.run(
            command,
            env=environment,
            cwd=Path("/"),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as problem:
        return [f"{' '.join(command)}: {problem}"]
    return [f"{' '.join(command)}: {done.stdout.strip()[-800:]}"] if done.returncode else []
