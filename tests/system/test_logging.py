"""The log of a whole runtime: the supervisor's lines and the workers' are of one format."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from support.runtime import actor, application, write_application
from support.waiting import wait_until

SERVICE = {"name": "talk.service", "kind": "process.service", "process": "talk", "host": "processes"}
SOURCES = {
    "app.py": """
        import logging
        from wsrelay.workers import process

        def talk():
            logging.getLogger("mine").warning("a line\\nand another")
            logging.getLogger("mine").info("not asked for")
            while not isinstance(process.receive(), process.Cancel):
                pass
    """
}


def test_json_from_the_supervisor_and_from_a_worker(tmp_path: Path) -> None:
    folder, log = tmp_path / "application", tmp_path / "log"
    write_application(folder, application(actor("talk"), SERVICE), SOURCES)
    with log.open("wb") as output:
        command = [Path(sys.executable).with_name("wsrelay"), "run", "--log-format", "json", folder]
        running = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:

        def entries() -> list[dict[str, Any]]:
            return [json.loads(line) for line in log.read_text().splitlines()]

        def of_the_worker() -> list[dict[str, Any]]:
            return [entry for entry in entries() if entry["logger"] == "mine"]

        wait_until(of_the_worker, 30.0, log.read_text)
        [said] = of_the_worker()
        assert said["message"] == "a line\nand another"
        assert said["entry"] == "app:talk"
        assert said["host"] == "app:processes"
        assert said["pid"].startswith("{")
        wait_until(lambda: any(entry.get("state") == "running" for entry in entries()), 30.0, log.read_text)
        running.terminate()
        assert running.wait(30) == 0
        assert entries()[-1]["message"].startswith("stopped in")
    finally:
        running.kill()
        running.wait()
