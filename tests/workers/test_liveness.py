"""Signs of life from a worker (S17): the handler comes back to the library, and the supervisor's question is answered."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.worker_lab import PEER, Lab, packed
from wsrelay.kernel.wire import messages as wire
from wsrelay.kernel.wire.configuration import HostConfiguration, HostLimits

BLOCKING = """
import os, signal
from wsrelay.workers import process

def main(gate):
    process.receive()
    process.send("{peer}", "busy", None)
    with open(gate):  # a fifo: until the test opens it too
        pass
    assert process.receive(timeout=0).payload == "second"
    process.send("{peer}", "hung", None)
    signal.pause()
"""
ASYNC = BLOCKING.replace("def main", "async def main").replace("process.receive", "await process.receive")
ASYNC = ASYNC.replace(
    "assert await process.receive(timeout=0).payload", "assert (await process.receive(timeout=0)).payload"
)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    configuration = HostConfiguration("app:processes", limits=HostLimits(liveness=1.0))
    with Lab(configuration, tmp_path) as made:
        yield made


@pytest.mark.parametrize("text", [BLOCKING, ASYNC], ids=["blocking", "async"])
def test_who_comes_back_answers_even_if_mail_waits(lab: Lab, tmp_path: Path, text: str) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    with lab.actor(text.replace("{peer}", PEER), "main", str(gate)) as worker:
        worker.tell(wire.Probe(1))
        assert worker.expect(wire.Alive) == wire.Alive(1)  # it waits for mail
        worker.tell(*(wire.Deliver(PEER, "topic", packed(word)) for word in ("first", "second", "third")))
        worker.message("busy")
        worker.tell(wire.Probe(2))
        gate.open("w").close()
        worker.message("hung")
        assert [record for record in worker.said if isinstance(record, wire.Alive)] == [wire.Alive(2)]


def test_an_async_handler_answers_while_it_waits_for_something_else(lab: Lab) -> None:
    text = "import asyncio\nasync def main():\n    await asyncio.Event().wait()\n"
    with lab.actor(text) as worker:
        for number in range(1, 4):
            worker.tell(wire.Probe(number))
            assert worker.expect(wire.Alive) == wire.Alive(number)


def test_a_function_worker_answers_between_invocations(lab: Lab) -> None:
    with lab.function_worker() as worker:
        worker.tell(wire.Probe(1))
        assert worker.expect(wire.Alive) == wire.Alive(1)


def test_an_idle_function_worker_answers_with_and_without_a_gateway(lab: Lab) -> None:
    with lab.function_worker() as worker:
        for number in range(1, 4):
            worker.tell(wire.Probe(number))
            assert worker.expect(wire.Alive) == wire.Alive(number)
            if number == 2:
                worker.data.close()
