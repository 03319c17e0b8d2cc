"""The limits of a host: each ends its own process, with its reason, and nobody else notices (S10, S17, S18, S42)."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest
from support.limited import LIMITED, entries, scene
from support.puppet import PUPPET_SOURCES, Puppet
from support.runtime import Runtime, running_runtime
from support.waiting import wait_until

BURN = "while True: pass"
FUNCTIONS = """
    import math, os, resource, signal, time
    from wsrelay.workers import http, process

    def used_time():
        return time.clock_gettime(-8)  # by the clock that the kernel limits

    def allowance():
        used = used_time()
        soft, hard = resource.getrlimit(resource.RLIMIT_CPU)
        while used_time() < used + 0.4:
            pass
        http.response().write_json({"os_pid": os.getpid(), "used": used, "soft": soft, "hard": hard})

    def burn():
        while True:
            pass

    def who():
        http.response().write_json(os.getpid())

    def hang():
        signal.pause()
"""


@contextlib.contextmanager
def limited(tmp_path: Path, functions: Mapping[str, str] | None = None, **limits: Any) -> Iterator[Runtime]:
    """A runtime whose host `app:limited` has these limits."""
    sources = {**PUPPET_SOURCES, "functions.py": FUNCTIONS}
    with running_runtime(tmp_path, entries({"limits": limits}, functions), sources) as runtime:
        yield runtime


def get(url: str) -> Any:
    """The JSON that is answered. Raises HTTPError."""
    with urllib.request.urlopen(url, timeout=30) as response:
        return json.loads(response.read())


# --- memory -----------------------------------------------------------------------------------------------------------

HOG = "hoard = []\nwhile sum(map(len, hoard)) < 160 << 20: hoard.append(b'x' * (1 << 20))\n"
MEMORY = "96MiB"


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    with limited(tmp_path_factory.mktemp("memory"), memory=MEMORY) as running:
        yield running


def test_memory(narrow: Runtime) -> None:
    # S18: limit:oom
    with scene(narrow) as on:
        on.culprit.order(HOG + "while True: signal.pause()")
        on.check_only_the_culprit_ends("limit:oom")
        assert "limits.memory is 96 MiB" in narrow.log()
        assert on.watcher.do(HOG + "len(hoard)") is None  # there is no limit on its host


def test_memory_of_descendants_counts(narrow: Runtime) -> None:
    # S16, S18: wherever they moved
    with scene(narrow) as on:
        on.culprit.do(
            "gate, opened = os.pipe()\n"
            "child = os.fork()\n"
            "if child == 0:\n"
            "    os.setsid()\n"
            "    os.read(gate, 1)\n"
            + "".join(f"    {line}\n" for line in HOG.splitlines())
            + "    while True: signal.pause()\n"
        )
        child = on.culprit.do("child")
        on.culprit.order("os.write(opened, b'x')")
        on.check_only_the_culprit_ends("limit:oom")
        wait_until(lambda: not Path(f"/proc/{child}").exists())


def test_memory_that_is_shared_counts_once(narrow: Runtime) -> None:
    with scene(narrow) as on:
        on.bystander.do(HOG.replace("160", "40"))
        children = "for _ in range(4):\n    if os.fork() == 0:\n        while True: signal.pause()"
        on.bystander.do(children)
        family = psutil.Process(on.bystander.os_pid)
        wait_until(lambda: len(family.children()) == 4)
        assert sum(each.memory_info().rss for each in [family, *family.children()]) > 200 << 20
        # It was looked at after that: the culprit's growth, which comes later, is seen.
        on.culprit.order(HOG + "while True: signal.pause()")
        on.check_only_the_culprit_ends("limit:oom")


@pytest.mark.parametrize(
    "how",
    [
        "file = os.memfd_create('hoard')",
        "file = os.open('/dev/shm', os.O_TMPFILE | os.O_RDWR, 0o600)",
        "file = os.memfd_create('hoard')\nif os.fork() == 0:\n    while True: signal.pause()",
    ],
    ids=["memfd", "a file without a name", "with a child that shares it"],
)
def test_memory_in_files_counts(tmp_path: Path, how: str) -> None:
    # S18: limit:oom; nothing of it is resident in any process
    with limited(tmp_path, memory=MEMORY) as runtime, scene(runtime) as on:
        on.culprit.order(f"{how}\nfor _ in range(160): os.write(file, b'x' * (1 << 20))\nwhile True: signal.pause()")
        on.check_only_the_culprit_ends("limit:oom")


def test_memory_in_a_file_that_is_mapped_counts_once(tmp_path: Path) -> None:
    with limited(tmp_path, memory=MEMORY) as runtime, scene(runtime) as on:
        on.bystander.do(
            "import mmap\nfile = os.memfd_create('shared')\nos.truncate(file, 50 << 20)\n"
            "area = mmap.mmap(file, 50 << 20)\nfor _ in range(50): area.write(b'x' * (1 << 20))"
        )
        # It was looked at after that: the culprit's growth, which comes later, is seen.
        on.culprit.order(HOG + "while True: signal.pause()")
        on.check_only_the_culprit_ends("limit:oom")


# --- CPU time ---------------------------------------------------------------------------------------------------------


def test_cpu_time(tmp_path: Path) -> None:
    # S18: limit:cpu; also for one that ignores the warning
    with limited(tmp_path, cpu="1s") as runtime:
        with scene(runtime) as on:
            on.culprit.order(BURN)
            on.check_only_the_culprit_ends("limit:cpu")
            on.bystander.order("os.kill(os.getpid(), signal.SIGXCPU)")  # this one has not used its time
            assert on.bystander.end() == (1011, "signal:SIGXCPU")
        with scene(runtime) as on:
            on.culprit.order(f"signal.signal(signal.SIGXCPU, signal.SIG_IGN)\n{BURN}")
            on.check_only_the_culprit_ends("limit:cpu")
            assert on.watcher.do("__import__('resource').getrlimit(0)") == [-1, -1]  # there is no limit on its host


def test_cpu_time_of_invocations(tmp_path: Path) -> None:
    # S57: each has the whole time, though the OS process is the same
    with limited(tmp_path, {"/allowance": "allowance", "/burn": "burn", "/who": "who"}, cpu="1s") as runtime:
        answers = [get(runtime.url("/allowance")) for _ in range(4)]
        assert len({answer["os_pid"] for answer in answers}) == 1
        assert answers[-1]["used"] > 1.0
        for answer in answers:
            assert answer["used"] + 0.9 <= answer["soft"] <= answer["used"] + 2
            assert answer["hard"] == -1
        with pytest.raises(urllib.error.HTTPError, match="502"):
            get(runtime.url("/burn"))
        wait_until(lambda: "limit:cpu" in runtime.log(), message=runtime.log)
        assert get(runtime.url("/who")) != answers[0]["os_pid"]


# --- liveness ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    functions = {"/who": "who", "/hang": "hang"}
    with limited(tmp_path_factory.mktemp("liveness"), functions, liveness="2s") as running:
        yield running


@pytest.mark.parametrize("how", [BURN, "signal.pause()", "os.kill(os.getpid(), signal.SIGSTOP)"])
def test_liveness(watched: Runtime, how: str) -> None:
    # S17: a hang is a death where the host says so; who waits for mail is alive
    with scene(watched) as on:
        on.culprit.order(how)
        on.check_only_the_culprit_ends("limit:liveness")


def test_liveness_of_function_workers(watched: Runtime) -> None:
    # S17: between invocations and within them
    log = watched.log_size()
    first = get(watched.url("/who"))
    with pytest.raises(urllib.error.HTTPError, match="502"):
        get(watched.url("/hang"))
    second = get(watched.url("/who"))
    assert first != second
    os.kill(second, signal.SIGSTOP)
    wait_until(lambda: not Path(f"/proc/{second}").exists())
    assert get(watched.url("/who")) != second
    assert "limit:liveness" in watched.log_since(log)


def test_a_hang_elsewhere_is_no_death(watched: Runtime) -> None:
    # S17: never without opt-in
    with scene(watched) as on, Puppet(watched) as hung:
        os.kill(hung.os_pid, signal.SIGSTOP)
        for _ in range(2):
            with Puppet(watched, LIMITED) as culprit:
                culprit.order("signal.pause()")
                assert culprit.end() == (1011, "limit:liveness")
        os.kill(hung.os_pid, signal.SIGCONT)
        assert hung.do("'fine'") == "fine"
        assert on.bystander.do("'fine'") == "fine"
        assert on.culprit.do("'fine'") == "fine"


@pytest.mark.parametrize(
    ("count", "size", "seconds"),
    [(20_000, 200, 0.01), (40, 500_000, 0.2)],
    ids=["there is always mail to be had without waiting", "the question waits behind more than the channel holds"],
)
def test_a_slow_reader_of_much_mail_is_alive(watched: Runtime, count: int, size: int, seconds: float) -> None:
    # S17
    with Puppet(watched) as sender, Puppet(watched, LIMITED) as slow:
        slow.order(
            "import time\n"
            "taken, started = 0, time.monotonic()\n"
            "while time.monotonic() < started + 3:\n"
            "    process.receive(timeout=10)\n"
            "    taken += 1\n"
            f"    time.sleep({seconds})\n"
        )
        sender.do(f"for n in range({count}): process.send(other, 'topic', b'x' * {size})", other=slow.pid)
        slow.answer()
        assert slow.do("taken") <= count
        assert sender.do("'fine'") == "fine"


# --- mailbox ----------------------------------------------------------------------------------------------------------

MAILBOX = 256 << 10


def resident(runtime: Runtime) -> int:
    """The supervisor's memory in bytes."""
    return int(psutil.Process(runtime.supervisor).memory_info().rss)


def test_a_stopped_receiver_is_bounded_and_holds_nobody_up(tmp_path: Path) -> None:
    # S10, invariant 11
    with limited(tmp_path, mailbox=MAILBOX) as runtime, scene(runtime) as on, Puppet(runtime) as other:
        os.kill(on.culprit.os_pid, signal.SIGSTOP)
        before = resident(runtime)
        on.watcher.order(
            "sent = 0\n"
            "while True:\n"
            "    process.send(other, 'topic', b'x' * 1000)\n"
            "    sent += 1\n"
            "    if sent % 100 == 0:\n"
            "        try: event = process.events().receive(timeout=0)\n"
            "        except process.Timeout: continue\n"
            "        break\n",
            other=on.culprit.pid,
        )
        for number in range(50):  # others talk meanwhile
            other.do("process.send(to, 'number', number)", to=on.bystander.pid, number=number)
        assert on.bystander.do("take(50)") == list(range(50))
        on.watcher.answer()
        assert on.watcher.do("event.reason.kind") == "limit:mailbox"
        assert on.culprit.end() == (1011, "limit:mailbox")
        assert on.watcher.do("sent") > MAILBOX // 1100
        assert resident(runtime) - before < 16 << 20
        assert on.bystander.do("'fine'") == "fine"


def test_notices_are_exempt_from_the_bound(tmp_path: Path) -> None:
    # S10: EXIT, LINK_DOWN and CANCEL
    count = 60
    last_words = {"data": json.dumps({"code": "raise BaseException('x' * 8000)", "names": {}})}
    with limited(tmp_path, mailbox="64KiB") as runtime, scene(runtime) as on:
        on.culprit.do(
            "process.set_options(trap_links=True)\n"
            f"for _ in range({count}):\n"
            "    pid, ref = process.spawn_linked_monitored('app:puppet', HOST)\n"
            "    process.send(to, 'pid', pid)\n",
            to=on.watcher.pid,
        )
        on.watcher.do(f"children = take({count})\nfor child in children: process.monitor(child)")
        os.kill(on.culprit.os_pid, signal.SIGSTOP)
        on.watcher.do("for child in children: process.send(child, 'ws.message', words)", words=last_words)
        assert {on.watcher.event()["kind"] for _ in range(count)} == {"exception"}
        on.watcher.do(
            "for _ in range(1000): process.cancel(to)\nprocess.send(to, 'small', 'mail')",
            to=on.culprit.pid,
        )
        assert on.watcher.events_now() == []  # more than a MiB waits for it, and it lives
        os.kill(on.culprit.os_pid, signal.SIGCONT)
        assert on.culprit.do("take(1)") == ["mail"]
        events = [event["event"] for event in on.culprit.events_now()]
        assert sorted(events) == ["cancel"] + ["exit"] * count + ["link_down"] * count
