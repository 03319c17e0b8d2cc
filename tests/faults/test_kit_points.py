"""Whether what is armed at a point is ever done: it is seen, wherever the handler runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from wsrelay.kernel.core.enforcement import SANDBOX_ABI
from wsrelay.kernel.shell.machine import landlock_abi
from wsrelay.tools import faults
from wsrelay.tools.faults import Armed, PointNeverReached, Raise, Runtime
from wsrelay.tools.faults.copies import adapt

APP = """
    from wsrelay.tools.faults import point
    from wsrelay.workers import http, process

    def connect():
        http.response().relay_to(process.spawn("app:echo", "app:processes"))

    def echo():
        for message in process.inbox():
            if message.topic == "ws.message":
                point("received")
                process.send(message.sender, "ws.send", {"data": message.payload["data"]})
            elif message.topic == "ws.leave":
                return
"""
ENTRIES = faults.application(faults.endpoint("/echo", "connect"), faults.actor("echo"))


@pytest.fixture(scope="module")
def runtime() -> Iterator[Runtime]:
    with faults.running_runtime(ENTRIES, {"app.py": APP}) as running:
        yield running


def test_what_is_armed_says_whether_it_was_performed(runtime: Runtime) -> None:
    with runtime.connect("/echo") as client, runtime.armed("received", Raise("x"), skip=1) as armed:
        assert (armed.reached, armed.performed) == (0, 0)
        client.send("hello")
        assert client.recv(timeout=15) == "hello"
        assert (armed.reached, armed.performed) == (1, 0)
        client.send("hello")
        faults.check_truth(client, Raise("x"))
    assert (armed.reached, armed.performed) == (2, 1)
    with runtime.armed("received", Raise("x")) as armed:
        pass
    assert (armed.reached, armed.performed) == (0, 0)
    with runtime.armed("received", None, required=True) as armed:
        pass
    assert (armed.reached, armed.performed) == (0, 0)


def test_a_fault_can_be_demanded(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    with runtime.connect("/echo") as client:
        with runtime.armed("received", Raise("x"), required=True) as armed:
            client.send("hello")
        assert armed.performed == 1
        faults.check_truth(client, Raise("x"))
    armed = runtime.arm("received", Raise("x"), skip=2)
    with runtime.connect("/echo") as client:
        client.send("hello")
        assert client.recv(timeout=15) == "hello"
        with pytest.raises(AssertionError, match=r"'received' to perform Raise.* it was reached 1 of 3 times"):
            armed.wait_performed(0.1)
    runtime.points.disarm()
    runtime.check_as_found()


def arm_two_points() -> Armed:
    """A runtime's life, in which a point is armed twice that there is not. Returns what was armed there."""
    with faults.running_runtime(ENTRIES, {"app.py": APP}) as runtime:
        for name in ("no.such.point", "received", "no.such.point"):
            with runtime.connect("/echo") as client, runtime.armed(name, Raise("x")) as armed:
                client.send("hello")
                if name == "received":
                    faults.check_truth(client, Raise("x"))
                else:
                    assert client.recv(timeout=15) == "hello"
    return armed


def test_a_point_that_is_never_reached_is_told() -> None:
    with pytest.warns(PointNeverReached, match="the point 'no.such.point' was armed, and never reached") as caught:
        armed = arm_two_points()
    assert len(caught) == 1
    assert not armed.performed  # also when the runtime is gone


@pytest.mark.skipif(landlock_abi() < SANDBOX_ABI, reason=f"needs Landlock with ABI {SANDBOX_ABI}")
@pytest.mark.parametrize(
    "sandbox", [{"read": ["/usr"]}, {"read": ["/usr"], "write": ["/dev/null"]}, {"write": []}], ids=str
)
def test_a_point_in_a_sandbox(sandbox: dict[str, list[str]]) -> None:
    entries = faults.application(faults.endpoint("/echo", "connect"), faults.actor("echo"))
    entries[1]["sandbox"] = sandbox
    with (
        faults.running_runtime(entries, {"app.py": APP}) as runtime,
        runtime.armed("received", Raise("x"), required=True),
        runtime.connect("/echo") as client,
    ):
        client.send("hello")
        faults.check_truth(client, Raise("x"))


def test_points_that_cannot_be_read_are_no_silence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WSRELAY_FAULTS", str(tmp_path / "hidden"))
    with pytest.raises(faults.PointsUnreachable, match=r"the armed points are in .*hidden \(WSRELAY_FAULTS\)"):
        faults.point("received")


STYLES = [
    "{read: [/usr]}",
    "{read: [/usr], write: []}",
    "{write: [/a, /b]}",
    "\n      read:\n        - /usr\n      # a comment\n      signals: false",
    "\n      write:\n      - /a   # a comment\n      - /b\n      read: [/usr]",
    "&it\n      read: [/usr]",
]


@pytest.mark.parametrize("style", STYLES)
def test_a_sandbox_in_any_style_lets_the_points_through(style: str) -> None:
    text = f"namespace: a\nentries:\n  - name: h\n    kind: process.host\n    sandbox: {style}\n    # the end\n    functions: 1\n"
    changed = adapt(text, Path("/sockets"), Path("/points"))
    before, after = (yaml.safe_load(each)["entries"][0] for each in (text, changed))
    assert after.pop("sandbox") == {**before["sandbox"], "write": ["/points", *before.pop("sandbox").get("write", [])]}
    assert after == before
    assert changed.count("#") == text.count("#")


@pytest.mark.parametrize("style", ["{signals: false}", "{}", "3", "{read: 3}", "{read: [/usr], write: 3}"])
def test_what_is_no_sandbox_of_files_stays(style: str) -> None:
    text = f"entries: [{{name: h, kind: process.host, sandbox: {style}}}]"
    assert adapt(text, Path("/sockets"), Path("/points")) == text
