"""Installs the project and what it needs into a new environment, from the one that runs this: without a network, in a moment.

    python systemd_install.py /opt/wsrelay

Run in the container of tools/systemd-container. A Python below /root is made reachable for others there.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import venv
from importlib import metadata
from pathlib import Path

SOURCE = Path(__file__).resolve().parent.parent
PROJECT = "wsrelay"
EXTRA = "speed"
_NAME = re.compile(r"[A-Za-z0-9._-]+")


def requirements(name: str, extra: str = "") -> set[str]:
    """What a distribution needs, whatever that needs in turn, as far as it is installed here."""
    found: set[str] = set()
    for requirement in metadata.requires(name) or ():
        specifier, _, marker = requirement.partition(";")
        if "extra" in marker and f'"{extra}"' not in marker.replace("'", '"'):
            continue
        needed = _NAME.match(specifier.strip())
        if needed is None or needed[0] in found:
            continue
        try:
            metadata.distribution(needed[0])
        except metadata.PackageNotFoundError:  # for another Python or system
            continue
        found |= {needed[0], *requirements(needed[0])}
    return found


def copy_distribution(name: str, target: Path) -> None:
    """Copy the files that a distribution has put into site-packages."""
    for file in metadata.distribution(name).files or ():
        place = Path(str(file.locate()))
        if ".." in file.parts or file.suffix == ".pyc" or not place.is_file():
            continue
        copy = target.joinpath(*file.parts)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(place, copy)


def main(prefix: str) -> None:
    venv.create(prefix, symlinks=True, clear=True)
    target = Path(prefix, "lib", f"python{sys.version_info[0]}.{sys.version_info[1]}", "site-packages")
    for name in requirements(PROJECT, EXTRA):
        copy_distribution(name, target)
    copy_distribution(PROJECT, target)
    for leftover in target.glob("__editable__*"):
        leftover.unlink()
    for package in ("kernel", "gateway", "workers"):
        shutil.copytree(SOURCE / package, target / PROJECT / package, ignore=shutil.ignore_patterns("__pycache__"))
    script = Path(prefix, "bin", PROJECT)
    script.write_text(
        f"#!{prefix}/bin/python\nimport sys\nfrom wsrelay.kernel.shell.command import main\nsys.exit(main())\n"
    )
    script.chmod(0o755)
    for folder in Path(sys.base_prefix, "bin").parents:
        mode = folder.stat().st_mode & 0o7777
        os.chmod(folder, mode | 0o111)


main(sys.argv[1])
