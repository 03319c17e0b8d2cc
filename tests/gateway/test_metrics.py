"""Metrics, health and the access log of a real gateway, and the text that they are written as."""

from __future__ import annotations

import concurrent.futures
import json
import re
import select
import socket
import struct
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families
from support.raw_client import frame, handshake, join
from support.scrape import Scrape, get
from support.standard_error import captured_lines
from support.waiting import wait_until
from wsrelay.gateway.core.counts import HighWater, code_label, initiator
from wsrelay.gateway.core.exposition import Metric, Samples
from wsrelay.gateway.core.metrics import CATALOGUE
from wsrelay.gateway.shell.accounts import shown_path
from wsrelay.kernel.wire import messages as m
from wsrelay.kernel.wire.configuration import Limits, Server, Timeouts, pack
from wsrelay.kernel.wire.observation import Histogram, HistogramData, Observation

# --- the text ---------------------------------------------------------------------------------------------------------


@given(st.text(), st.floats(allow_nan=False))
def test_any_label_is_read_back(label: str, value: float) -> None:
    samples = Samples([Metric("a_total", "counter", 'help \\ and "\nmore', ("x",))])
    samples.put("a_total", value, label)
    if re.search(r"[\x0b\x0c\x1c-\x1e\x85\u2028\u2029\r]", label):
        return  # the parser of the library takes these for ends of lines; they cannot be in an id
    [family] = text_string_to_metric_families(samples.render().decode())
    assert (family.type, family.documentation) == ("counter", 'help \\ and "\nmore')
    [sample] = family.samples
    assert (sample.labels, sample.value) == ({"x": label}, value)


@given(st.lists(st.floats(0, 100), max_size=30))
def test_a_histogram_adds_up(values: list[float]) -> None:
    histogram = Histogram((0.5, 1.0, 50.0))
    for value in values:
        histogram.observe(value)
    samples = Samples([Metric("t_seconds", "histogram", "h", ())])
    samples.put("t_seconds", histogram.data())
    [family] = text_string_to_metric_families(samples.render().decode())
    found = {(sample.name, sample.labels.get("le")): sample.value for sample in family.samples}
    for bound, text in ((0.5, "0.5"), (1.0, "1.0"), (50.0, "50.0"), (float("inf"), "+Inf")):
        assert found["t_seconds_bucket", text] == sum(value <= bound for value in values)
    assert found["t_seconds_count", None] == len(values)
    assert found["t_seconds_sum", None] == pytest.approx(sum(values))


def test_an_unknown_metric_is_a_mistake() -> None:
    with pytest.raises(KeyError):
        Samples(CATALOGUE).put("wsrelay_nothing", 1)


def test_names_follow_the_conventions() -> None:
    """https://prometheus.io/docs/practices/naming/"""
    assert len({metric.name for metric in CATALOGUE}) == len(CATALOGUE)
    for metric in CATALOGUE:
        assert re.fullmatch(r"wsrelay_[a-z_]+", metric.name)
        assert metric.name.endswith("_total") == (metric.kind == "counter"), metric.name
        assert metric.kind != "histogram" or metric.name.endswith("_seconds"), metric.name
        assert metric.help.endswith("."), metric.name


def test_close_codes_are_few_labels() -> None:
    labels = {code_label("client_closed", code) for code in [None, *range(1000, 1015), *range(3000, 5000)]}
    assert labels == {"1005", "3xxx", "4xxx", *map(str, range(1000, 1015))}
    assert code_label("connection_lost", 1011) == "1006"
    assert initiator("closed", "target") == "target"
    assert initiator("slow_client", "target") == "gateway"


@given(st.lists(st.one_of(st.none(), st.integers(0, 1000)), max_size=50))
def test_a_high_water_mark_holds_for_two_whiles(steps: list[int | None]) -> None:
    mark, whiles = HighWater(), [[0]]
    for step in steps:
        if step is None:
            mark.rotate()
            whiles.append([0])
        else:
            mark.note(step)
            whiles[-1].append(step)
        assert mark.value == max(max(each) for each in whiles[-2:])


@given(st.text())
def test_a_path_in_the_log_is_one_word(path: str) -> None:
    shown = shown_path(path)
    assert shown.isprintable()
    assert not any(each.isspace() for each in shown)


# --- a gateway --------------------------------------------------------------------------------------------------------

ADMIN = Server("app:admin", "127.0.0.1:0", limits=Limits(message=1, body=0, connections=64), admin=True)
SERVER = {"server": "app:gateway"}
HANDSHAKE = handshake(b"/ws/secret?token=secret")


class Watched:
    """A gateway with an `http.admin`, whose supervisor answers when the test says so."""

    def __init__(self, supervisor: Any) -> None:
        self.supervisor = supervisor
        self.admin = f"http://127.0.0.1:{supervisor.ports['app:admin']}"

    def ask(self, path: str, observation: Observation) -> tuple[int, str]:
        """Get a page; the supervisor answers this."""
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            answer = pool.submit(get, self.admin + path)
            asked = self.supervisor.expect(m.Observe)
            self.supervisor.send(m.Observed(asked.request, pack(observation)))
            return answer.result()

    def scrape(self) -> Scrape:
        status, text = self.ask("/metrics", Observation())
        assert status == 200
        return Scrape(text)

    def open(self) -> tuple[socket.socket, Any]:
        """An open WebSocket, and its target."""
        supervisor = self.supervisor
        function, target = supervisor.function_worker(), supervisor.actor()
        client, answer = join(supervisor, function, target, HANDSHAKE)
        target.expect(m.Join)
        assert answer == 101
        return client, target


@pytest.fixture
def watch(start_gateway: Any, new_server: Callable[..., Server]) -> Callable[..., Watched]:
    def start(**fields: Any) -> Watched:
        supervisor = start_gateway(new_server(**fields), ADMIN)
        supervisor.expect(m.GatewayReady)
        return Watched(supervisor)

    return start


def test_what_the_supervisor_says(watch: Callable[..., Watched]) -> None:
    watched = watch()
    assert watched.ask("/readyz", Observation()) == (200, "ok\n")
    assert watched.ask("/readyz", Observation(unready="stopping")) == (503, "stopping\n")
    assert watched.ask("/healthz", Observation(unready="stopping")) == (200, "ok\n")
    entry = 'app:"x"\\'
    exits = {entry: {"normal": 3, "limit:oom": 1}}
    spawn_seconds = HistogramData((0.1,), (2, 1), 0.5)
    _, text = watched.ask("/metrics", Observation(exits=exits, spawn_seconds=spawn_seconds, gateway_restarts=7))
    seen = Scrape(text)
    assert seen.value("exits_total", entry=entry, reason="limit:oom") == 1
    assert seen.value("spawn_seconds_bucket", le="+Inf") == 3
    assert seen.value("gateway_restarts_total") == 7
    assert set(seen.families) <= {metric.name.removesuffix("_total") for metric in CATALOGUE}


def test_a_supervisor_that_does_not_answer(watch: Callable[..., Watched]) -> None:
    watched = watch()
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        metrics, health = (pool.submit(get, watched.admin + path) for path in ("/metrics", "/healthz"))
    status, text = metrics.result()
    assert status == 200
    assert Scrape(text).value("supervisor_up") == 0
    assert Scrape(text).value("connections_opened_total", **SERVER) == 0
    assert health.result() == (503, "the supervisor does not answer\n")


def test_a_flood_of_scrapes_does_not_reach_the_supervisor(watch: Callable[..., Watched]) -> None:
    watched = watch()
    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        answers = [pool.submit(get, watched.admin + "/metrics") for _ in range(200)]
        asked = 0
        while not all(answer.done() for answer in answers):
            watched.supervisor.pump(0.05)
            for record in watched.supervisor.inbox:
                watched.supervisor.send(m.Observed(record.request, pack(Observation())))
            asked += len(watched.supervisor.inbox)
            watched.supervisor.inbox.clear()
    assert {answer.result()[0] for answer in answers} == {200}
    assert asked <= 100, "they share the answers"


def test_a_slow_client_and_a_slow_worker(watch: Callable[..., Watched]) -> None:  # S53, S54
    limits = Limits(outbound=200_000, inbound=100_000)
    watched = watch(limits=limits, timeouts=Timeouts(close=1.0, write=60.0, stall=0.3))
    client, target = watched.open()
    with client:
        for _ in range(300):
            target.send(m.ClientSend((1,), b"x" * 60_000))
        assert target.expect(m.Leave).reason == "slow_client"
    seen = watched.scrape()
    assert seen.value("slow_clients_total", **SERVER) == 1
    assert seen.value("client_queue_high_water_bytes") > 200_000
    assert seen.value("connections_closed_total", code="1013", initiator="gateway", **SERVER) == 1
    client, target = watched.open()
    with client:
        client.setblocking(False)
        message = frame(2, b"x" * 50_000)
        while select.select([client], [client], [], 0.2)[:2] == ([], [client]):  # until nothing is taken any more
            client.send(message)
        assert select.select([client], [], [], 30)[0], "no Close came"
        assert target.expect(m.Leave).reason == "timeout"
    seen = watched.scrape()
    assert seen.value("stalls_total") == 1
    assert seen.value("stalled_workers") == 0
    assert seen.value("worker_queue_high_water_bytes") > 100_000
    assert seen.value("connections_closed_total", code="1013", initiator="gateway", **SERVER) == 2


def test_the_time_from_a_death_to_the_close(watch: Callable[..., Watched]) -> None:
    watched = watch()
    client, target = watched.open()
    with client:
        watched.supervisor.send(m.DeathNoticed(target.number, 0.001))  # of the system's start
        target.end("signal:SIGSEGV")
        assert client.recv(100)[:4] == b"\x88\x10\x03\xf3"
        seen = watched.scrape()
        assert seen.value("crash_to_close_seconds_count") == 1
        assert seen.value("crash_to_close_seconds_sum") > 0
        assert seen.value("crash_to_close_seconds_bucket", le="0.001") == 0


def test_hostile_requests_make_no_labels(watch: Callable[..., Watched]) -> None:
    watched = watch()
    port = watched.supervisor.ports["app:gateway"]
    for number in range(20):
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(b"SECRET%d /secret%d HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" % (number, number))
            assert client.recv(12) == b"HTTP/1.1 404"
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(b"\xff\xfe secret\r\n\r\n")
        assert client.recv(12) == b"HTTP/1.1 400"
    seen = watched.scrape()
    assert seen.value("http_requests_total", status="404", **SERVER) == 20
    assert seen.value("http_requests_total", status="400", **SERVER) == 1
    assert "secret" not in str(seen.samples).lower()


@pytest.mark.usefixtures("capfd")
def test_the_access_log(watch: Callable[..., Watched], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WSRELAY_LOG_FORMAT", "json")
    watched = watch(access_log=True)
    client, target = watched.open()
    with client:
        client.sendall(frame(1, b"secret") + frame(1, b"secret"))
        target.expect(m.ClientMessage)
        target.expect(m.ClientMessage)
        target.send(m.ClientSend((1,), "secret"))
        assert client.recv(100)
        client.sendall(frame(8, struct.pack("!H", 4001) + b"secret"))
        assert target.expect(m.Leave).code == 4001
    assert get(f"http://127.0.0.1:{watched.supervisor.ports['app:gateway']}/no%0Athing?token=secret")[0] == 404

    def lines() -> list[dict[str, str]]:
        return [json.loads(line) for line in captured_lines().splitlines() if "wsrelay.access" in line]

    wait_until(lambda: len(lines()) == 4, 30.0, captured_lines)
    upgrade, opened, closed, request = lines()
    assert {name: upgrade[name] for name in ("status", "method", "path")} == {
        "status": "101", "method": "GET", "path": "/ws/secret",
    }  # fmt: skip
    assert (opened["target"], opened["remote"], opened["path"]) == (target.pid, "127.0.0.1", "/ws/secret")
    expected = {
        "connection": opened["connection"], "target": target.pid, "host": "app:processes", "server": "app:gateway",
        "code": "4001", "initiator": "client", "leave": "client_closed", "reason": "ws_closed:4001",
        "messages_in": "2", "messages_out": "1", "bytes_in": str(2 * 12 + 14),
    }  # fmt: skip
    assert {name: closed[name] for name in expected} == expected
    assert float(closed["seconds"]) >= 0
    assert int(closed["bytes_out"]) > 129
    assert (request["status"], request["path"]) == ("404", "/no%0Athing")
    text = captured_lines()
    assert "token" not in text
    assert text.count("secret") == 4, "the paths, in field and message: no query, payload or reason"
