"""The kit's faults do what they say, and are seen as they must be; the generic properties hold for each (S18, S49)."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, find, given, settings
from hypothesis import strategies as st
from wsrelay.tools import faults
from wsrelay.tools.faults import Fault, Runtime, Where, outside, strategies
from wsrelay.tools.faults.clients import end_of

APP = """
    from wsrelay.tools.faults import obey, point
    from wsrelay.workers import http, process

    def connect():
        http.response().relay_to(process.spawn("app:echo", "app:" + http.request().param("host")))

    def echo():
        for message in process.inbox():
            if message.topic == "ws.message" and not obey(message):
                point("received")
                process.send(message.sender, "ws.send", {"data": message.payload["data"]})
                point("answered")
            elif message.topic == "ws.leave":
                return

    def answer():
        point("asked")
        http.response().write("fine")

    def connect_calm():
        http.response().relay_to(process.spawn("app:calm", "app:processes"))

    def calm():
        for message in process.inbox():
            if message.topic == "ws.message":
                process.send(message.sender, "ws.send", {"data": message.payload["data"]})
            elif message.topic == "ws.leave":
                return
"""
LIMITED = {
    "name": "limited",
    "kind": "process.host",
    "functions": 0,
    "limits": {"memory": "100MiB"},
}
ENTRIES = faults.application(
    faults.endpoint("/echo/{host}", "connect"),
    faults.actor("echo"),
    faults.endpoint("/calm", "connect_calm"),
    faults.endpoint("/answer", "answer"),
    faults.actor("calm"),
)
ENTRIES = [
    *[{**entry, "host": "processes"} if entry["kind"] == "function.python" else entry for entry in ENTRIES],
    LIMITED,
]
INSIDE = [
    faults.Raise(),
    faults.ExitCode(0),
    faults.ExitCode(3),
    faults.OsExit(0),
    faults.OsExit(4),
    faults.Signal("SIGKILL"),
    faults.Signal("SIGABRT"),
    faults.Signal("SIGTERM"),
    faults.Segfault(),
    faults.StackOverflow(),
    faults.MemoryHog(),
    faults.BusyLoop(0.1),
    faults.HoldGIL(0.1),
    faults.ForkKeepsChannel(),
    faults.Garbage("control", b"\xc1"),
    faults.Garbage("data", b"\x92\x02\x01"),
    faults.TornFrame("control"),
    faults.TornFrame("data"),
]


@pytest.fixture(scope="module")
def runtime() -> Iterator[Runtime]:
    """One for all tests: each leaves it as it was."""
    with faults.running_runtime(ENTRIES, {"app.py": APP}) as running:
        yield running


@pytest.mark.parametrize("fault", INSIDE, ids=repr)
def test_inside_a_handler(runtime: Runtime, fault: Fault) -> None:  # S11, S13, S16, S17, S18, S42, S49
    path = "/echo/limited" if fault.needs else "/echo/processes"
    with faults.check_isolation(runtime, "/calm"), runtime.connect(path) as client:
        client.send(faults.order(fault))
        faults.check_truth(client, fault)


@pytest.mark.parametrize("fault", [faults.BusyLoop(), faults.HoldGIL(), faults.Stop(None)], ids=repr)
def test_hung_is_not_dead(runtime: Runtime, fault: Fault) -> None:  # S17
    with faults.check_isolation(runtime, "/calm"), runtime.connect("/echo/processes") as client:
        client.send("one")
        assert client.recv(timeout=15) == "one"
        [worker] = [each for each in runtime.ps() if each.entry == "app:echo"]
        if Where.INSIDE in fault.places:
            client.send(faults.order(fault))
        else:
            faults.perform(runtime, fault, os_pid=worker.os_pid)
        client.send("nobody hears")
        assert client.ping().wait(15)
        with pytest.raises(TimeoutError):
            client.recv(timeout=0.1)
        kill = faults.Signal("SIGKILL")
        faults.perform(runtime, kill, os_pid=worker.os_pid)
        faults.check_truth(client, kill)


def test_a_stop_that_ends_loses_nothing(runtime: Runtime) -> None:  # S17
    with runtime.connect("/echo/processes") as client:
        client.send("one")
        assert client.recv(timeout=15) == "one"
        [worker] = [each for each in runtime.ps() if each.entry == "app:echo"]
        fault = faults.Stop(0.05)
        faults.perform(runtime, fault, os_pid=worker.os_pid)
        for number in range(10):
            client.send(str(number))
        assert [client.recv(timeout=15) for _ in range(10)] == [str(number) for number in range(10)]
        faults.check_truth(client, fault)


CLIENTS = [faults.ResetLine(3), faults.ClientGarbage(), faults.SlowClient(5), faults.NeverReads()]


@pytest.mark.parametrize("fault", CLIENTS, ids=repr)
def test_clients_that_behave_badly(runtime: Runtime, fault: Fault) -> None:  # S46, S49, S54
    with faults.check_isolation(runtime, "/calm"):
        code = faults.perform(runtime, fault, path="/echo/processes")
    assert code in (fault.outcome.codes or (1000,))


def test_a_gateway_s_death(runtime: Runtime) -> None:  # S41
    fault = faults.KillGateway()
    with faults.check_isolation(runtime, "/calm", fault=fault), runtime.connect("/echo/processes") as client:
        faults.perform(runtime, fault)
        faults.check_truth(client, fault)
    with runtime.connect("/echo/processes") as client:
        client.send("again")
        assert client.recv(timeout=15) == "again"


def test_a_host_s_death(runtime: Runtime) -> None:  # S41a
    fault = faults.KillHost("app:processes")
    with faults.check_isolation(runtime, "/calm"), runtime.connect("/echo/processes") as client:
        faults.perform(runtime, fault)
        faults.check_truth(client, fault)


def test_the_supervisor_s_death() -> None:  # S40
    fault = faults.KillSupervisor()
    with (
        faults.running_runtime(ENTRIES, {"app.py": APP}) as runtime,
        faults.check_isolation(runtime, "/calm", fault=fault),
        runtime.connect("/echo/processes") as client,
    ):
        faults.perform(runtime, fault)
        faults.check_truth(client, fault)


def test_only_the_runtime_s_own_processes_are_hit(runtime: Runtime) -> None:  # S2
    with pytest.raises(LookupError, match="is none of this runtime's"):
        outside.kill(runtime, os.getppid())
    with pytest.raises(LookupError, match=r"there is no host 'x': there are \['app:limited', 'app:processes'\]"):
        faults.perform(runtime, faults.KillHost("x"))
    with pytest.raises(TypeError, match="inside a handler"):
        faults.perform(runtime, faults.Raise())
    with pytest.raises(ValueError, match="os_pid says which"):
        faults.perform(runtime, faults.Signal())
    with pytest.raises(ValueError, match="path says where"):
        faults.perform(runtime, faults.ResetLine())
    with pytest.raises(ValueError, match="not done inside"):
        runtime.arm("received", faults.KillGateway())
    with pytest.raises(ValueError, match="a point's name"):
        runtime.arm("../elsewhere", faults.Raise())


@pytest.mark.parametrize(
    ("fault", "there", "status", "said"),
    [
        (faults.Garbage("data"), True, 1, "NoChannel: the channel has ended: who was at its other end is dead"),
        (faults.TornFrame("data"), True, -signal.SIGKILL, ""),
        (faults.Garbage("data"), False, 1, "NoChannel: there is no channel 'data' here"),
        (faults.TornFrame("data"), False, 1, "NoChannel: there is no channel 'data' here"),
    ],
    ids=repr,
)
def test_a_channel_whose_gateway_is_dead(fault: Fault, there: bool, status: int, said: str) -> None:  # S41
    """What inherits the ends of socket pairs that its parent has made is as a worker is."""
    code = f"from wsrelay.tools.faults import inject, kinds; inject(kinds.{fault!r})"
    with contextlib.ExitStack() as stack:
        ends = [stack.enter_context(end) for end in socket.socketpair()]
        control, data = ends[1], None
        if there:
            gateway, data = socket.socketpair()
            stack.enter_context(data)
            gateway.close()
        inherited = [end.fileno() for end in (control, data) if end is not None]
        done = subprocess.run(
            [sys.executable, "-c", code], check=False, pass_fds=inherited, capture_output=True, text=True
        )
    assert done.returncode == status, done.stderr
    assert said in done.stderr


def test_a_client_that_is_never_cut_is_seen() -> None:  # S54
    [service, *others] = ENTRIES
    patient = {**service, "limits": {"outbound": "1GiB"}, "timeouts": {"write": "1h"}}
    assert service["kind"] == "http.service"
    never = faults.NeverReads(size=8 << 20, within=1.0)
    with (
        faults.running_runtime([patient, *others], {"app.py": APP}) as runtime,
        pytest.raises(AssertionError, match=r"reads nothing is to be cut \(S54\): \d+ bytes of it were taken, and 1 s"),
    ):
        faults.perform(runtime, never, path="/echo/processes")


# --- points -----------------------------------------------------------------------------------------------------------


def test_a_point_is_reached_as_often_as_it_says(runtime: Runtime) -> None:
    with runtime.connect("/echo/processes") as client:
        runtime.arm("received", faults.OsExit(7), skip=2)
        for text in ("one", "two"):
            client.send(text)
            assert client.recv(timeout=15) == text
        assert runtime.points.armed() == ["received"]
        client.send("three")
        assert end_of(client) == (1011, "exit:7")
    assert runtime.points.armed() == []
    with runtime.armed("received", faults.Raise()):
        pass
    with runtime.armed("received", None), runtime.connect("/echo/processes") as client:
        client.send("unharmed")
        assert client.recv(timeout=15) == "unharmed"


@given(fault=strategies.crashes(), point=st.sampled_from(["received", "answered"]))
@settings(max_examples=15, suppress_health_check=[HealthCheck.too_slow])
def test_every_crash_at_every_point(runtime: Runtime, fault: Fault, point: str) -> None:  # S42, S49
    with faults.check_isolation(runtime, "/calm"), runtime.connect("/echo/processes") as client:
        with runtime.connect("/echo/processes") as other, runtime.armed(point, fault):
            other.send("hello")
            faults.check_truth(other, fault)
        client.send("hello")
        assert client.recv(timeout=15) == "hello"
    runtime.check_as_found()


@pytest.mark.parametrize(
    "fault",
    [
        faults.Raise(),
        faults.ExitCode(0),
        faults.ExitCode(3),
        faults.Signal(),
        faults.Garbage("data"),
        faults.TornFrame("data"),
        faults.BusyLoop(0.1),
    ],
    ids=repr,
)
def test_an_http_handler(runtime: Runtime, fault: Fault) -> None:  # S57, S58
    with faults.check_isolation(runtime, "/calm"), runtime.armed("asked", fault):
        faults.check_answer(runtime, "/answer", fault)
        faults.check_answer(runtime, "/answer", faults.BusyLoop(0.0))  # the next one finds another worker


def test_a_lie_is_seen(runtime: Runtime) -> None:
    with (
        runtime.armed("asked", faults.Raise()),
        pytest.raises(AssertionError, match="the answer must be 502, and is 500"),
    ):
        faults.check_answer(runtime, "/answer", faults.Signal())
    for done, said, complaint in [
        (faults.ExitCode(0), faults.Raise(), "must see 1011, and saw 1000"),
        (faults.Segfault(), faults.Raise(), "the reason must be exception, and is 'signal:SIGSEGV'"),
        (faults.BusyLoop(0.0), faults.Raise(), "the client must be closed, and nothing came for 0.2 s"),
        (faults.Raise(), faults.BusyLoop(0.0), "must stay connected, and was closed: received 1011"),
    ]:
        with runtime.connect("/echo/processes") as client:
            client.send(faults.order(done))
            if not said.outcome.codes:
                end_of(client)
            with pytest.raises(AssertionError, match=complaint):
                faults.check_truth(client, said, timeout=15 if done.outcome.ends else 0.2)


def test_a_disturbed_bystander_is_seen(runtime: Runtime) -> None:
    with (
        pytest.raises(AssertionError, match=r"a bystander was disturbed after .* exchanges: ConnectionClosed"),
        faults.check_isolation(runtime, "/echo/processes"),
        runtime.armed("received", faults.Raise()),
    ):
        faults.wait_until(lambda: not runtime.points.armed())


def test_in_production_nothing_obeys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WSRELAY_FAULTS", raising=False)

    class Asking:
        topic = "fault"
        payload = repr(faults.Raise())

    assert not faults.obey(Asking())
    faults.point("anywhere")
    monkeypatch.setenv("WSRELAY_FAULTS", "/nonexistent")
    with pytest.raises(faults.InjectedFault):
        faults.obey(Asking())


# --- values -----------------------------------------------------------------------------------------------------------


@given(strategies.faults())
def test_a_fault_is_what_its_repr_says(fault: Fault) -> None:
    assert faults.parse(repr(fault)) == fault
    assert eval(repr(fault), vars(faults) | {kind.__name__: kind for kind in faults.ALL}) == fault
    outcome = fault.outcome
    assert fault.places
    assert bool(outcome.reasons) <= bool(outcome.codes)
    assert not (outcome.hangs and outcome.codes)


@pytest.mark.parametrize(
    "text", ["", "Raise", "print('x')", "Raise(text=open('x'))", "ExitCode(1, 2)", "os.Raise()", "[]", "Raise("]
)
def test_what_is_no_fault_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no fault"):
        faults.parse(text)


def test_simple_faults_shrink_first() -> None:
    assert find(strategies.faults(), lambda fault: True) == faults.Raise()
    assert find(strategies.faults(), lambda fault: "signal:SIGSEGV" in fault.outcome.reasons) == faults.Segfault()
    assert find(strategies.faults(ends=False), lambda fault: fault.outcome.hangs) == faults.BusyLoop(None)
    assert find(strategies.faults(Where.CLIENT), lambda fault: True) == faults.ClientGarbage()
    assert find(strategies.maybe(strategies.crashes()), lambda fault: True) is None


@given(strategies.faults(Where.INSIDE, ends=True))
def test_what_needs_a_limit_is_drawn_only_where_there_is_one(fault: Fault) -> None:
    assert not fault.needs


def test_every_fault_is_drawn() -> None:
    assert set(strategies.BY_KIND) == set(faults.ALL)
