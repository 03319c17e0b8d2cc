"""The benchmark's own reasoning, and one quick run of it as users start it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zlib
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from benchmark import memory, profiling, runner
from benchmark.cases.every import CASES
from benchmark.cases.model import BEST_ISOLATED, Mark, Settings
from benchmark.load import scripts
from benchmark.load.frames import client_frame
from benchmark.load.latency import bucket_start, percentile, summary
from benchmark.peers.process import Server
from benchmark.report import page, regression, tables
from hypothesis import given
from hypothesis import strategies as st

TOOLS = Path(__file__).resolve().parents[2] / "tools"

ROUNDS = {
    "wsrelay": [{"rate": 90.0}, {"rate": 110.0}, {"rate": 100.0}],
    "uvicorn-websockets": [{"rate": 50.0}],
    "node": [{"rate": 80.0}],
    "nginx": [{"rate": 60.0}],
}


def test_a_mark_compares_medians() -> None:
    verdict = Mark("rate", 2.0, peer="uvicorn-websockets").judge(ROUNDS)
    assert (verdict["value"], verdict["bound"], verdict["ratio"], verdict["reached"]) == (100, 100, 2.0, True)
    assert Mark("rate", 2.1, peer="uvicorn-websockets").judge(ROUNDS)["reached"] is False


def test_the_best_isolated_peer_is_neither_ours_nor_in_process() -> None:
    assert Mark("rate", 1.2, peer=BEST_ISOLATED).judge(ROUNDS)["bound"] == pytest.approx(96)


def test_a_mark_against_the_best_isolated_peer_says_who_that_was_and_who_was_absent() -> None:
    mark = Mark("rate", 1.2, peer=BEST_ISOLATED)
    case = replace(CASES["echo"], servers=(*ROUNDS, "websocketd", "pushpin", "websockets"), marks=(mark,))
    rounds = {**ROUNDS, "nginx": [{"rate": 60.0}], "websocketd": []}
    [verdict] = case.judge(rounds, missing={"pushpin": "not installed"}, failed={"nginx": "ConnectionError"})
    assert verdict["best"] == "node"
    assert verdict["absent"] == {"nginx": "failed", "websocketd": "left out", "pushpin": "missing"}
    [[text, *_, told]] = tables.mark_rows([verdict])
    assert text == "rate ≥ 1.2 × the best isolated peer (Node ws + forked worker)"
    assert told == (
        "reached; failed: nginx + uvicorn, uvloop + websockets; left out: websocketd, a Python process each; "
        "missing: Pushpin, WebSocket-over-HTTP"
    )


def test_other_marks_say_nothing_of_who_was_absent() -> None:
    case = replace(CASES["echo"], marks=(Mark("rate", 1.2, peer="uvicorn-websockets"),))
    [verdict] = case.judge(ROUNDS, missing={"pushpin": "not installed"}, failed={})
    [[*_, told]] = tables.mark_rows([verdict])
    assert told == "reached"


def test_who_was_left_out_is_not_told_where_nothing_can_be() -> None:
    case = replace(CASES["echo"], marks=(Mark("rate", 1.2, peer=BEST_ISOLATED),))
    [verdict] = case.judge({"wsrelay": ROUNDS["wsrelay"]}, missing={"pushpin": "not installed"}, failed={})
    [[*_, told]] = tables.mark_rows([verdict])
    assert told == "cannot be told; missing: Pushpin, WebSocket-over-HTTP"


@pytest.mark.parametrize(
    ("at_least", "value", "factor", "shown"),
    [
        (True, 149.99, 1.5, ["149.99", "150.00", "1.49 ×", "not reached"]),
        (True, 150.0, 1.5, ["150.00", "150.00", "1.50 ×", "reached"]),
        (False, 150.01, 1.5, ["150.01", "150.00", "1.51 ×", "not reached"]),
        (False, 149.99, 1.5, ["149.99", "150.00", "1.50 ×", "reached"]),
    ],
)
def test_what_a_mark_shows_is_cut_to_the_side_on_which_it_is_missed(
    at_least: bool, value: float, factor: float, shown: list[str]
) -> None:
    rounds = {"wsrelay": [{"rate": value}], "uvicorn-websockets": [{"rate": 100.0}]}
    verdict = Mark("rate", factor, at_least, peer="uvicorn-websockets").judge(rounds)
    [[_, *cells]] = tables.mark_rows([verdict])
    assert cells == shown


@given(st.floats(0.001, 1e7), st.floats(0.001, 1e7), st.booleans())
def test_a_mark_that_is_reached_reads_so(value: float, bound: float, at_least: bool) -> None:
    verdict = Mark("rate", bound, at_least).judge({"wsrelay": [{"rate": value}]})
    [[_, shown, limit, _, told]] = tables.mark_rows([verdict])
    if told == "reached":
        number, most = (float(text.replace(",", "")) for text in (shown, limit))
        assert number >= most if at_least else number <= most


@pytest.fixture
def startable_peers(monkeypatch: pytest.MonkeyPatch) -> None:
    """What tools/bench sets, for the processes that it starts."""
    monkeypatch.setenv("PYTHONPATH", str(TOOLS))


@pytest.mark.usefixtures("startable_peers")
def test_a_server_that_ends_is_left_out_with_what_it_said() -> None:
    def end(server: Server, settings: Settings) -> dict[str, float]:
        for root in server.roots:
            root.kill()
            root.wait()
        raise RuntimeError("no connection")

    case = replace(CASES["echo"], servers=("websockets",), marks=(), measure=end)
    found = runner.run_case(case, Settings(rounds=2), ["websockets"], {})
    assert found["servers"] == {}
    assert found["failed"]["websockets"].startswith(
        "RuntimeError: no connection; the server ended during the measurement: "
    )


@pytest.mark.usefixtures("startable_peers")
def test_a_server_that_fails_and_runs_on_has_not_ended() -> None:
    def fail(server: Server, settings: Settings) -> dict[str, float]:
        raise RuntimeError("wrong bytes")

    case = replace(CASES["echo"], servers=("websockets",), marks=(), measure=fail)
    found = runner.run_case(case, Settings(rounds=2), ["websockets"], {})
    assert found["failed"] == {"websockets": "RuntimeError: wrong bytes"}


@pytest.mark.usefixtures("startable_peers")
def test_free_memory_is_touched_and_given_back() -> None:
    free = psutil.virtual_memory().free
    told = memory.touch(spared=max(0, free - 4 * memory.PIECE))
    assert re.fullmatch(r"[\d.]+ GiB touched in \d+ s", told)
    assert not psutil.Process().children()


def test_memory_that_cannot_be_touched_is_no_reason_not_to_measure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONPATH", raising=False)  # so that the program is not found
    assert memory.touch() == "not touched (exit status 1)"


def test_what_was_not_measured_cannot_be_told() -> None:
    assert Mark("rate", 1.0, peer="pushpin").judge(ROUNDS)["reached"] is None
    assert Mark("rate", 1.0, server="wsrelay-coalesced").judge(ROUNDS)["reached"] is None


def test_a_bound_from_above() -> None:
    assert Mark("rate", 100, at_least=False).judge(ROUNDS)["reached"] is True
    assert Mark("rate", 99, at_least=False).judge(ROUNDS)["reached"] is False


def test_every_mark_names_what_its_case_measures() -> None:
    for case in CASES.values():
        keys = {measure.key for measure in case.measures}
        for mark in case.marks:
            assert mark.measure in keys
            assert mark.server in case.servers
            assert mark.peer in {"", BEST_ISOLATED, *case.servers}


@given(st.binary(max_size=300), st.binary(min_size=4, max_size=4))
def test_a_frame_is_masked_with_its_key(payload: bytes, key: bytes) -> None:
    frame = client_frame(1, payload, key)
    masked = frame[len(frame) - len(payload) :]
    assert bytes(byte ^ key[index % 4] for index, byte in enumerate(masked)) == payload


@given(st.lists(st.floats(1e-6, 1.0), min_size=1))
def test_a_histogram_loses_nothing(seconds: list[float]) -> None:
    found = summary(seconds)
    assert sum(found["histogram"].values()) == len(seconds)
    assert found["p50"] <= found["p99"] <= found["largest"]
    smallest = min(map(int, found["histogram"]))
    assert bucket_start(smallest) <= min(seconds) * 1e6 * 1.001 + 1


def test_percentiles() -> None:
    assert [percentile([1.0, 2.0, 3.0, 4.0], share) for share in (0.25, 0.5, 0.99)] == [1, 2, 4]


def test_compressed_messages_inflate_to_json() -> None:
    script = scripts.Script.make(1024)
    assert len(script.frames) == len(script.payloads) == scripts.DISTINCT
    assert all(len(payload) == 1024 for payload in script.payloads)
    assert len(zlib.compress(script.payloads[0])) < 700


def test_what_was_not_measured_has_a_dash() -> None:
    """Results of a version that did not measure it are shown, too."""
    old, new = {"rate": 90.0, "cpu": 10.0}, {"rate": 80.0, "cpu": 12.0, "load cpu": 2.34}
    result = {"servers": {"wsrelay": [old, old], "wsrelay-own": [new]}}
    head, first, second = tables.rows(CASES["echo"], result)
    assert head[1:] == ["messages/s", "range", "CPU µs/message", "range", "load's CPU"]
    assert first[1:] == ["90", "90 – 90", "10.0", "10.0 – 10.0", "-"]
    assert second[1:] == ["80", "80 – 80", "12.0", "12.0 – 12.0", "2.3"]


def test_the_page_has_the_committed_figures() -> None:
    """`tools/bench page` writes them."""
    assert page.PAGE.read_text() == page.rendered(page.PAGE.read_text())


def test_a_profile_leaves_the_waits_out() -> None:
    seen = [
        "main (a);Runner.run (b) 90",
        "main (a);Runner.run (b);read (c);scan (d) 3",
        "main (a);Runner.run (b);read (c) 1",
    ]
    assert profiling.shares(seen) == [
        {"function": "scan (d)", "own": 0.75, "all": 0.75},
        {"function": "read (c)", "own": 0.25, "all": 1.0},
    ]


def test_a_ratio_that_grew_beyond_the_tolerance_is_worse() -> None:
    committed = regression.read(regression.COMMITTED)
    assert regression.check(committed.ratios, committed)[1]
    worse = {name: ratio * (1.01 + committed.tolerance) for name, ratio in committed.ratios.items()}
    assert not regression.check(worse, committed)[1]


def test_a_quick_run_measures_this_runtime() -> None:
    """As users start it, in a process of its own; all of standard output is JSON, and every byte was what it must be."""
    command = [sys.executable, "-m", "benchmark", "echo-one", "crash", "--quick", "--server", "wsrelay", "--json", "-"]
    environment = {**os.environ, "PYTHONPATH": str(TOOLS)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    document = json.loads(done.stdout)
    assert "messages/s" in done.stderr
    assert f"commit: {document['conditions']['commit']}" in done.stderr
    [found] = document["cases"]["echo-one"]["servers"]["wsrelay"]
    assert found["messages"] > 0
    assert found["load cpu"] > 0
    assert document["cases"]["crash"]["servers"]["wsrelay"][0]["p50"] > 0
