"""A runtime to be reloaded: its application, in versions that say which they are, and the commands for it."""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .runtime import GATEWAY, PROCESSES, ROUTER, Runtime, actor, endpoint, write_application

COMMAND = Path(sys.executable).with_name("wsrelay")
SOURCE = """
    import os
    from wsrelay.workers import http, process

    VERSION = "VERSION_OF_CODE"

    def version():
        http.response().write(VERSION)

    def open_echo():
        http.response().relay_to(process.spawn("app:echo", "app:processes"))

    def open_named():
        http.response().relay_to("served")

    def open_held():
        http.response().relay_to("served", on_exit="hold")

    def echo():
        told = ""
        while True:
            match process.receive():
                case process.Cancel():
                    return
                case process.Message("@reload"):
                    told = " told"
                case process.Message("ws.message", payload, sender):
                    process.send(sender, "ws.send", {"data": f"{VERSION} {os.getpid()} {payload['data']}{told}"})

    def other():
        process.events().receive()

    def open_upgrading():
        http.response().relay_to("upgrading")

    def upgrading():
        while True:
            match process.receive():
                case process.Cancel():
                    return
                case process.Message("@reload"):
                    process.upgrade()
                case process.Message("ws.message", payload, sender):
                    process.send(sender, "ws.send", {"data": f"{VERSION} {process.pid()} {payload['data']}"})

    def deaf():
        for _ in process.inbox():
            pass
"""


def source(version: str) -> dict[str, str]:
    """The files of this version of the application."""
    return {"app.py": SOURCE.replace("VERSION_OF_CODE", version)}


ACTORS = [actor("echo"), actor("other"), actor("deaf"), actor("upgrading")]
ROUTES = [*endpoint("/version", "version"), *endpoint("/echo", "open_echo"), *endpoint("/named", "open_named"),
          *endpoint("/held", "open_held")]  # fmt: skip
BASE = [GATEWAY, PROCESSES, ROUTER, *ACTORS, *ROUTES]


def service(name: str = "served", process: str = "echo", **lifecycle: Any) -> dict[str, Any]:
    """An entry for a service that has its own name registered, and runs this process."""
    return {
        "name": f"{name}.service",
        "kind": "process.service",
        "process": process,
        "host": "processes",
        "register": name,
        "lifecycle": {"stop_timeout": "5s", "restart": {"initial_delay": "10ms"}, **lifecycle},
    }


def ask(runtime: Runtime, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command for this runtime."""
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(runtime.temporary)}
    environment.pop("RUNTIME_DIRECTORY", None)
    return subprocess.run(
        [COMMAND, *arguments], env=environment, capture_output=True, text=True, check=False, timeout=120
    )


def reload(runtime: Runtime, *arguments: str) -> str:
    """Reload, and expect that it is done. Returns what was said."""
    done = ask(runtime, "reload", str(runtime.folder), *arguments)
    assert done.returncode == 0, done.stderr + runtime.log()
    return done.stdout


def get(runtime: Runtime, path: str) -> tuple[int, str]:
    """The status and the text of an answer; no text of an error."""
    try:
        with urllib.request.urlopen(runtime.url(path), timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, ""


def said(client: Any, text: str) -> list[str]:
    """Ask an echo: version, os_pid, text."""
    client.send(text)
    return str(client.recv(timeout=60)).split()


def changes(runtime: Runtime, *entries: Mapping[str, Any], version: str | None = None) -> None:
    """Write another configuration."""
    write_application(runtime.folder, list(entries), source(version) if version else {})
