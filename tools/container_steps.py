"""The steps of deploy/container/Dockerfile and compose.yaml, without an engine. Run by tools/container-test, as root in mount and
network namespaces of its own.

Reads the steps from the files, so that they are what is tested. The base image is an overlay of this machine's "/".
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shlex
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import yaml
from websockets.sync.client import connect

WORK = Path("/mnt")
IMAGE = WORK / "image"
TIMEOUT = 60.0
"""Seconds that a step may wait for something."""
PIP = "/opt/wsrelay/bin/pip install"


def read_dockerfile(text: str) -> list[tuple[str, str]]:
    """Return the instructions, each with its text."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    steps = []
    for line in lines:
        word, _, rest = line.partition(" ")
        steps.append((word, rest.strip()))
    return steps


def say(text: str) -> None:
    print(f"container-test: {text}", flush=True)


def run(*command: str) -> str:
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def mount(*arguments: str) -> None:
    run("mount", *arguments)


def make_image(source: Path) -> None:
    """An overlay of "/" with the source tree at /source."""
    mount("-t", "tmpfs", "-o", "mode=755", "none", str(WORK))
    for name in ("image", "upper", "work"):
        (WORK / name).mkdir()
    mount("-t", "overlay", "none", "-o", f"lowerdir=/,upperdir={WORK}/upper,workdir={WORK}/work", str(IMAGE))
    (IMAGE / "source").mkdir(exist_ok=True)
    mount("--bind", str(source), str(IMAGE / "source"))
    mount("--rbind", "/dev", str(IMAGE / "dev"))
    mount("-t", "proc", "none", str(IMAGE / "proc"))


def build(steps: list[tuple[str, str]]) -> dict[str, str]:
    """Run what the Dockerfile says; return the settings that it leaves, and its environment under `ENV NAME`."""
    settings: dict[str, str] = {}
    for word, text in steps:
        if word == "RUN":
            if text.startswith(PIP):
                text = "/source/.venv/bin/python -P /source/tools/systemd_install.py /opt/wsrelay"
            elif "-m venv" in text:
                continue  # that script makes it
            say(f"RUN {text}")
            run("chroot", str(IMAGE), "/bin/sh", "-ec", text)
        elif word == "COPY" and not text.startswith("--from"):
            origin, target = text.split()
            if origin != ".":
                say(f"COPY {text}")
                (IMAGE / target.lstrip("/")).write_bytes((IMAGE / "source" / origin).read_bytes())
        elif word == "ENV":
            name, _, value = text.partition("=")
            settings[f"ENV {name}"] = value
        elif word not in ("FROM", "COPY"):
            settings[word] = text
    return settings


def finish_image(application: Path, tmpfs: str) -> None:
    """The application at /app, a tmpfs at /tmp, and all else read-only."""
    (IMAGE / "app").mkdir(exist_ok=True)
    mount("--bind", str(application), str(IMAGE / "app"))
    mount("-o", "remount,bind,ro", str(IMAGE / "app"))
    place, _, options = tmpfs.partition(":")
    mount("-t", "tmpfs", "-o", options, "none", f"{IMAGE}{place}")
    mount("-o", "remount,ro", str(IMAGE))


def loopback_up() -> None:
    """ip link set lo up (SIOCSIFFLAGS, netdevice(7))."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
        fcntl.ioctl(end, 0x8914, struct.pack("16sh14x", b"lo", 1))


def words(settings: dict[str, str], name: str) -> list[str]:
    text = settings[name]
    found: list[str] = json.loads(text[text.index("[") :])
    return found


def environment(settings: dict[str, str]) -> list[str]:
    return [f"{name.removeprefix('ENV ')}={value}" for name, value in settings.items() if name.startswith("ENV ")]


@contextlib.contextmanager
def container(settings: dict[str, str]) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """The runtime as PID 1; yields the outer process, and its own number outside."""
    uid, gid = settings["USER"].split(":")
    confine = ["setpriv", "--reuid", uid, "--regid", gid, "--clear-groups", "--bounding-set=-all", "--inh-caps=-all"]
    command = [*words(settings, "ENTRYPOINT"), *words(settings, "CMD")]
    inner = ["chroot", str(IMAGE), *confine, "--no-new-privs", "env", "-i", *environment(settings), *command]
    script = f"mount -t proc none {IMAGE}/proc && exec {shlex.join(inner)}"
    # exec all the way: what is started here is PID 1 there.
    process = subprocess.Popen(["unshare", "--pid", "--mount", "--fork", "--kill-child", "sh", "-c", script])
    try:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        wait_until(lambda: bool(children.read_text().split()), "the namespace")
        yield process, int(children.read_text().split()[0])
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Wait until `condition()` is true."""
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"container-test: waited {TIMEOUT:.0f} s for {what}")
        time.sleep(0.05)


def healthy(settings: dict[str, str], inside: int) -> bool:
    """What the engine asks."""
    command = words(settings, "HEALTHCHECK")
    enter = ["nsenter", "--target", str(inside), "--mount", "--pid", "--root", "env", "-i", *environment(settings)]
    return subprocess.run([*enter, *command], stderr=subprocess.DEVNULL, check=False).returncode == 0


def check(settings: dict[str, str], service: dict[str, object]) -> None:
    with container(settings) as (process, inside):
        wait_until(lambda: process.poll() is not None or healthy(settings, inside), "the health check")
        if process.poll() is not None:
            raise SystemExit(f"container-test: the runtime ended with {process.returncode}")
        say("the health check is passed")
        asked = settings["ENV WSRELAY_HEALTH"]
        if not asked.endswith("/healthz") or healthy({**settings, "ENV WSRELAY_HEALTH": asked + "/nothing"}, inside):
            raise SystemExit(f"container-test: the health check does not ask what it should: {asked}")
        status = Path(f"/proc/{inside}/status").read_text()
        uid = settings["USER"].split(":")[0]
        for expected in (r"NSpid:.*\t1$", rf"Uid:\t{uid}\t", r"CapBnd:\t0+$", r"NoNewPrivs:\t1$"):
            if re.search(expected, status, re.MULTILINE) is None:
                raise SystemExit(f"container-test: PID 1 is not as it should be: no {expected} in\n{status}")
        say(f"PID 1 is the guardian, of the user {uid}, without capabilities")
        with connect("ws://127.0.0.1:8080/ws/echo") as client:
            client.send("hello")
            if client.recv(timeout=TIMEOUT) != "hello":
                raise SystemExit("container-test: no echo")
            folders = [path.name for path in Path(f"/proc/{inside}/root/tmp").glob("wsrelay-*/*")]
            if not folders:
                raise SystemExit("container-test: the worker has no temporary folder")
        say("a WebSocket is answered by a worker with a private temporary folder")
        os.kill(inside, signal.SIGTERM)
        code = process.wait(timeout=float(str(service["stop_grace_period"]).removesuffix("s")))
        if code != 0:
            raise SystemExit(f"container-test: SIGTERM ended PID 1 with {code}, expected 0")
        if left := list((IMAGE / "tmp").iterdir()):
            raise SystemExit(f"container-test: left in /tmp: {left}")
        say("SIGTERM stops it in good order, and nothing is left")


def main(root: str) -> None:
    folder = Path(root, "deploy", "container")
    service = yaml.safe_load((folder / "compose.yaml").read_text())["services"]["wsrelay"]
    expected = {"read_only": True, "cap_drop": ["ALL"], "security_opt": ["no-new-privileges:true"]}
    if wrong := {name: service.get(name) for name, value in expected.items() if service.get(name) != value}:
        raise SystemExit(f"container-test: compose.yaml is not what is tested here: {wrong}")
    loopback_up()
    make_image(Path(root))
    settings = build(read_dockerfile((folder / "Dockerfile").read_text()))
    application = re.sub(r"^\$\{APPLICATION:-(.*?)\}:/app:ro$", r"\1", service["volumes"][0])
    finish_image(folder / application, service["tmpfs"][0])
    check(settings, service)
    say("passed")


main(sys.argv[1])
