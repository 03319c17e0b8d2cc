"""The log of a whole runtime: the supervisor's lines and the workers' are of one format."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from support.runtime import actor, application, running_runtime, write_application
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


def test_mistakes_of_the_configuration_are_entries_too(tmp_path: Path) -> None:
    command = [Path(sys.executable).with_name("wsrelay"), "run", "--log-format", "json"]
    nothing = tmp_path / "nothing"
    ended = subprocess.run([*command, nothing], capture_output=True, text=True, check=False, timeout=60)
    [entry] = [json.loads(line) for line in ended.stderr.splitlines()]
    assert (ended.returncode, entry["level"]) == (1, "error")
    assert entry["message"] == f"{nothing}: there is no such file or folder"


HOSTILE = "harmless\n2026-01-01 00:00:00,000 CRITICAL forged \x1b[31m\x9b31m\r\u2028 and more"
SAYS = f"""
    import logging
    from wsrelay.workers import process

    def says():
        logging.getLogger("mine").warning("%s", {HOSTILE!r})
        raise ValueError({HOSTILE!r})
"""


def test_what_an_exception_says_forges_no_line(tmp_path: Path) -> None:
    service = {"name": "says.service", "kind": "process.service", "process": "says", "host": "processes"}
    service |= {"lifecycle": {"restart": {"type": "temporary"}}}
    with running_runtime(tmp_path, [*application(actor("says"), service)], {"app.py": SAYS}) as runtime:
        wait_until(
            lambda: "ended: exception" in runtime.log() and "WARNING harmless" in runtime.log(), 30.0, runtime.log
        )
        wait_until(lambda: "service app:says.service: " in runtime.log().rpartition("ended: exception")[2])
        log = runtime.log()
    assert log.count("forged") >= 3  # the worker's own line, the reason, the traceback
    for line in log.split("\n"):
        assert "forged" not in line or line.startswith("    "), line
    assert not set("\x1b\x9b\r\u2028") & set(log)
    assert "\\x1b[31m" in log
