"""The load generator's program, which is written in C: where it is, compiled anew when its source has changed.

What it has compiled is kept below `.tools/`, under a name that says from which source.
"""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import tempfile
from pathlib import Path

SOURCE = Path(__file__).parent / "source"
BUILT = Path(__file__).resolve().parents[3] / ".tools" / "load"
COMPILE = ("cc", "-std=c11", "-D_GNU_SOURCE", "-O2", "-Wall", "-Wextra", "-Werror")
PACKAGES = ("gcc", "libc6-dev")
"""Debian's packages with a compiler and what it needs."""
TIMEOUT = 120


def can_compile() -> bool:
    """Whether there is a C compiler, with the headers of a C library."""
    try:
        done = subprocess.run(
            ["cc", "-E", "-x", "c", "-"], input=b"#include <stdio.h>\n", capture_output=True, check=False
        )
    except OSError:
        return False
    return done.returncode == 0


def program() -> Path:
    """The compiled program. Raises RuntimeError if it has to be compiled and cannot be."""
    path = BUILT / f"generator-{_digest()}"
    if not path.exists():
        if not can_compile():
            names = " ".join(PACKAGES)
            raise RuntimeError(
                "the load generator is written in C, and there is no C compiler ('cc' with the headers of a C library): "
                f"'tools/bench --install-peers' or 'apt-get install {names}'"
            )
        _compile(path)
    return path


def _digest() -> str:
    """Of all that the program comes from."""
    digest = hashlib.sha256(" ".join([platform.machine(), *COMPILE]).encode())
    for file in sorted(SOURCE.glob("*.[ch]")):
        digest.update(f"\n{file.name}\n".encode() + file.read_bytes())
    return digest.hexdigest()[:16]


def _compile(path: Path) -> None:
    """Compile to `path`, at once for whoever else looks for it, and remove what older sources have left."""
    BUILT.mkdir(parents=True, exist_ok=True)
    sources = [str(file) for file in sorted(SOURCE.glob("*.c"))]
    with tempfile.TemporaryDirectory(prefix="compiling-", dir=BUILT) as folder:
        made = Path(folder) / path.name
        command = [*COMPILE, "-o", str(made), *sources]
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
        if done.returncode:
            raise RuntimeError(f"the load generator does not compile: {' '.join(command)}\n{done.stderr.strip()}")
        os.replace(made, path)
    for other in BUILT.glob("generator-*"):
        if other != path:
            other.unlink(missing_ok=True)
