"""The pytest plugin in a project that is not ours: it fails whoever leaves something, says why, and costs nothing unused."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PROJECT = '''
"""Tests of a project that uses the kit."""

import os, socket, subprocess, sys
import pytest
from hypothesis import given, settings, strategies as st
from wsrelay.tools import faults

ENTRIES = faults.application(
    faults.endpoint("/spawns/{what}", "connect"), faults.actor("echo"), faults.actor("idle")
)
SOURCES = {"app.py": """
    from wsrelay.workers import http, process

    def connect():
        http.response().relay_to(process.spawn("app:" + http.request().param("what"), "app:processes"))

    def idle():
        for message in process.inbox():
            pass

    def echo():
        for message in process.inbox():
            if message.topic == "ws.message":
                process.send(message.sender, "ws.send", {"data": message.payload["data"]})
            elif message.topic == "ws.leave":
                return
"""}

@pytest.fixture
def impatient(monkeypatch):
    """For tests that leave something, which is waited for."""
    monkeypatch.setattr("wsrelay.tools.faults.runtime.REST_TIMEOUT", 1.5)
    monkeypatch.setattr("wsrelay.tools.faults.hygiene.GRACE", 0.5)

def test_two_runtimes(wsrelay_runtime):
    one, two = wsrelay_runtime(ENTRIES, SOURCES), wsrelay_runtime(ENTRIES, SOURCES)
    with one.connect("/spawns/echo") as client:
        client.send("hello")
        assert client.recv(timeout=15) == "hello"

    import asyncio
    async def talk():
        async with two.connect_async("/spawns/echo") as client:
            await client.send("hello")
            return await client.recv()
    assert asyncio.run(talk()) == "hello"

def test_leaves_an_actor(impatient, wsrelay_runtime):
    with wsrelay_runtime(ENTRIES, SOURCES).connect("/spawns/idle"):
        pass

def test_leaves_a_client(impatient, wsrelay_runtime):
    LEFT.append(faults.RawClient(wsrelay_runtime(ENTRIES, SOURCES).port(), "/spawns/echo"))

def test_leaves_a_descriptor(impatient, wsrelay_runtime):
    wsrelay_runtime(ENTRIES, SOURCES)
    LEFT.append(open(os.devnull))

def test_leaves_a_child(impatient, wsrelay_runtime):
    wsrelay_runtime(ENTRIES, SOURCES)
    LEFT.append(subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE))

LEFT = []

def test_fails_itself(wsrelay_runtime):
    with wsrelay_runtime(ENTRIES, SOURCES).connect("/spawns/idle"):
        pass
    assert 1 == 2

def test_that_ends_the_runtime(wsrelay_runtime):
    faults.perform(wsrelay_runtime(ENTRIES, SOURCES), faults.KillSupervisor())

def test_mistaken_entries(wsrelay_runtime):
    wsrelay_runtime([{"name": "x", "kind": "no.such.kind"}])

@given(st.lists(st.text(max_size=3), max_size=3))
@settings(max_examples=2, deadline=None)
def test_with_hypothesis(texts):
    with faults.running_runtime(ENTRIES, SOURCES) as runtime, runtime.connect("/spawns/echo") as client:
        for text in texts:
            client.send(text)
            assert client.recv(timeout=15) == text
'''


def run_pytest(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run pytest in a project of somebody else's, with the plugins of this environment."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "WSRELAY"))}
    environment["COLUMNS"] = "200"
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_a_project_that_uses_the_kit(tmp_path: Path) -> None:
    (tmp_path / "test_project.py").write_text(PROJECT)
    done = run_pytest(tmp_path, "-q", "-rA", "--hypothesis-seed=7")
    said = done.stdout
    outcomes = {line.split("::")[1].split(" ")[0]: line.split(" ")[0] for line in said.splitlines() if "::" in line}
    passed = {name for name, outcome in outcomes.items() if outcome == "PASSED"}
    assert passed >= {"test_two_runtimes", "test_that_ends_the_runtime", "test_with_hypothesis"}, said
    assert (
        "ERROR test_project.py::test_leaves_an_actor - AssertionError: waited 1.5 s for the runtime to be as it was"
        in said
    )
    assert "a process: worker app:idle {" in said
    assert "ERROR test_project.py::test_leaves_a_client" in said
    assert "connections: 1 more than at the start" in said
    assert "ERROR test_project.py::test_leaves_a_descriptor" in said
    assert "'/dev/null'" in said
    assert "ERROR test_project.py::test_leaves_a_child" in said
    # A test that fails itself fails once, with the runtime's log and the seed.
    assert outcomes["test_fails_itself"] == "FAILED"
    assert "ERROR test_project.py::test_fails_itself" not in said
    assert "- log of the runtime in " in said
    assert "Hypothesis seed: 7 (repeat with --hypothesis-seed=N)" in said
    # A mistake in the entries is told as `wsrelay check` tells it.
    assert outcomes["test_mistaken_entries"] == "FAILED"
    assert "no.such.kind" in said


def test_a_project_that_does_not_use_the_kit(tmp_path: Path) -> None:
    """Nothing is imported for it but pytest's own modules."""
    (tmp_path / "test_other.py").write_text(
        """
import sys

def test_other(request):
    assert request.config.pluginmanager.has_plugin("wsrelay")
    ours = {name for name in sys.modules if name.startswith("wsrelay.")}
    assert ours <= {"wsrelay.tools", "wsrelay.tools.faults", "wsrelay.tools.faults.plugin"}, ours
    assert not {"psutil", "yaml", "websockets", "hypothesis"} & set(sys.modules)
"""
    )
    done = run_pytest(tmp_path, "-q", "-p", "no:hypothesispytest")
    assert done.returncode == 0, done.stdout


def test_a_handler_imports_little(tmp_path: Path) -> None:
    code = (
        "import sys; before = set(sys.modules); from wsrelay.tools.faults import point, obey; "
        "print(*sorted({'pytest', 'hypothesis', 'websockets', 'psutil', 'yaml'} & set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
