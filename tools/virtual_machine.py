"""Runs one command in a virtual machine that is made of a folder with a system: its kernel, its systemd, and its files on a disk.

    python virtual_machine.py [--accelerator tcg|kvm] [--seconds N] SYSTEM WORK -- COMMAND…

The machine has two serial lines. The kernel and systemd write to the first, which is kept in WORK/console and shown if the machine
fails; what the command writes comes by the second, and is passed on. Its exit status comes last, in a line with `STATUS`, and is
this program's. The disk is a copy: SYSTEM stays as it is, but for the unit. The machine ends with this program, whatever becomes of it,
and after N seconds at the latest. Where the processor's help is asked for and cannot be had, as in many machines that are virtual
themselves, it says so as soon as that shows, and exits with 77.
"""

from __future__ import annotations

import argparse
import os
import select
import shlex
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, cast

BOOTED = "virtual-machine: it has booted"
STATUS = "virtual-machine: the exit status is "
UNIT = "in-virtual-machine.service"
SOURCE = "/var/cache/wsrelay"
"""The copy of the project in there."""
DISK = "3G"
"""Room for the system and for what it writes; a hole is no space."""
MEMORY, PROCESSORS = 2048, 2
BOOT = 180.0
"""Seconds until the command must have begun."""
SIGN = 30.0
"""Seconds until a machine with the processor's help must have written something to its console: its kernel does in one."""
END = 1.0
"""Seconds from the end of what it writes to the end of qemu."""
CANNOT = 77
PATIENCE = 120
"""Seconds that a check waits for something; without hardware help all is ten times slower than elsewhere."""
TAIL = 40
"""Lines of the console that are shown of a machine that has failed."""


def render_unit(command: Sequence[str]) -> str:
    """Return the text of the unit that runs a command, and tells what became of it."""
    script = f"exec </dev/null >/dev/ttyS1 2>&1\necho '{BOOTED}'\n{shlex.join(command)}\necho '{STATUS}'$?\n"
    quoted = script.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("%", "%%").replace("$", "$$")
    return f"""[Unit]
Description=The command of tools/virtual_machine.py
After=basic.target

[Service]
WorkingDirectory={SOURCE}
Environment=PYTHONPATH={SOURCE}/tools PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 WSRELAY_PATIENCE={PATIENCE} LANG=C.UTF-8 HOME=/root
ExecStart=/bin/sh -c "{quoted}"
"""


def machine_command(accelerator: str, kernel: Path, initrd: Path, disk: Path, console: Path) -> list[str]:
    """Return the command that runs the machine. It ends when the machine is switched off or starts anew."""
    how = {"tcg": ["-accel", "tcg,thread=multi", "-cpu", "max"], "kvm": ["-accel", "kvm", "-cpu", "host"]}[accelerator]
    words = "root=/dev/vda rw init=/lib/systemd/systemd console=ttyS0 panic=1 mitigations=off"
    words += "" if accelerator == "kvm" else " quiet"  # with help, silence is a sign
    words += f" systemd.unit=basic.target systemd.wants={UNIT}"
    return [
        "qemu-system-x86_64", *how, "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none",
        "-smp", str(PROCESSORS), "-m", str(MEMORY), "-kernel", str(kernel), "-initrd", str(initrd), "-append", words,
        "-drive", f"file={disk},if=virtio,format=raw,cache=unsafe", "-serial", f"file:{console}", "-serial", "stdio",
    ]  # fmt: skip


def exit_status(line: str) -> int | None:
    """Return the command's exit status, if this is the line that tells it."""
    _, found, number = line.partition(STATUS)
    return int(number) if found and number.strip().isdigit() else None


def tells_of_no_help(line: str) -> bool:
    """Whether this is qemu saying that it cannot go on with the processor's help, and no warning."""
    if line.startswith("KVM internal error"):
        return True
    by_qemu = line.startswith("qemu-system-x86_64:") and "warning:" not in line
    return by_qemu and ("kvm" in line.lower() or "MSR" in line)


def why_no_help(last_line: str, console: str, *, ended: bool) -> str | None:
    """Return what shows that a machine that has failed cannot have the processor's help; None if something else may be wrong.

    `last_line` is the last that came of the machine or of qemu, `console` is all of it; `ended` is whether qemu has."""
    if tells_of_no_help(last_line):
        return last_line
    if console.strip():
        return None
    return (
        "qemu has ended before there was a line of the console" if ended else f"no line of the console in {SIGN:.0f} s"
    )


def make_disk(system: Path, disk: Path) -> None:
    """A file system with all that is in the folder `system`."""
    command = ["mkfs.ext4", "-q", "-F", "-d", str(system), "-E", "root_owner=0:0", str(disk), DISK]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def newest(paths: Iterable[Path]) -> Path:
    """Return the kernel, or initrd, with the highest name. Raises SystemExit if there is none."""
    found = sorted(paths)
    if not found:
        raise SystemExit("virtual-machine: the system has no kernel")
    return found[-1]


def lines_in_time(stream: IO[bytes], seconds: float, console: Path | None = None) -> Iterator[str]:
    """Yield lines as they come, until the end, or the time is over. What comes before `BOOTED` has less time, and with a `console`
    there must be something in that within `SIGN`."""
    began, limit, rest = time.monotonic(), min(seconds, BOOT), b""
    while True:
        due = limit if console is None else min(limit, SIGN)
        left = began + due - time.monotonic()
        if left <= 0 or not select.select([stream], [], [], left)[0]:
            if due == limit or not read_console(console):
                return
            console = None
            continue
        if not (data := os.read(stream.fileno(), 65536)):
            return
        *whole, rest = (rest + data).split(b"\n")
        for line in whole:
            text = line.decode(errors="replace").rstrip("\r")
            if text == BOOTED:
                limit = seconds
            else:
                yield text


def read_console(console: Path | None) -> str:
    """Return what the kernel and systemd have written so far."""
    return console.read_text(errors="replace").strip() if console is not None and console.exists() else ""


def why_it_stopped(console: str) -> str | None:
    """Return what the console says of a kernel that has given up, as an emulated one may that does nothing wrong; None if nothing."""
    panics = [line.partition("Kernel panic")[2] for line in console.splitlines() if "Kernel panic" in line]
    return f"its kernel has panicked{panics[0]}" if panics else None


def has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Whether it ends now: its output is closed a moment before that."""
    try:
        process.wait(END)
    except subprocess.TimeoutExpired:
        return False
    return True


def run(command: Sequence[str], console: Path, seconds: float, *, helped: bool = False) -> int:
    """Run the machine until its command has ended; return the exit status of that, 1 if there was none. `helped` is whether the
    processor's help was asked for; `CANNOT` if it cannot be had."""
    # With this program gone the machine is too.
    command = ["setpriv", "--pdeathsig", "KILL", *command]
    last = ""
    errors = subprocess.STDOUT if helped else None
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors) as process:
        try:
            for line in lines_in_time(cast(IO[bytes], process.stdout), seconds, console if helped else None):
                if (status := exit_status(line)) is not None:
                    return status
                print(line, flush=True)
                last = line
                if helped and tells_of_no_help(line):
                    break
            ended = has_ended(process)
        finally:
            process.kill()
    written = read_console(console)
    if helped and (why := why_no_help(last, written, ended=ended)) is not None:
        print(f"the processor's help cannot be used here; without --kvm it works: {why}", file=sys.stderr)
        return CANNOT
    why = why_it_stopped(written) or (
        "it has ended by itself" if ended else "its time is over, and its command has not ended"
    )
    print("\n".join([*written.splitlines()[-TAIL:], f"virtual-machine: {why}"]), file=sys.stderr)
    return 1


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="virtual_machine.py")
    parser.add_argument("--accelerator", choices=("tcg", "kvm"), default="tcg")
    parser.add_argument("--seconds", type=float, default=1200.0)
    parser.add_argument("system", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("command", nargs="+")
    asked = parser.parse_args(arguments)
    (asked.system / "etc/systemd/system" / UNIT).write_text(render_unit(asked.command))
    disk, console = asked.work / "disk", asked.work / "console"
    make_disk(asked.system, disk)
    boot = asked.system / "boot"
    kernel, initrd = newest(boot.glob("vmlinuz-*")), newest(boot.glob("initrd.img-*"))
    machine = machine_command(asked.accelerator, kernel, initrd, disk, console)
    return run(machine, console, asked.seconds, helped=asked.accelerator == "kvm")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
