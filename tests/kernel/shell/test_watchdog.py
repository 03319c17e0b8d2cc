"""The watchdog, on a clock that a test turns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest
from wsrelay.kernel.shell.watchdog import TICKS, Watchdog

LIMIT = 10.0


class Clock:
    """The part of an event loop that a watchdog uses."""

    def __init__(self) -> None:
        self.timers: list[Timer] = []

    def call_later(self, delay: float, callback: Callable[[], None]) -> Timer:
        timer = Timer(delay, callback)
        self.timers.append(timer)
        return timer

    def tick(self) -> None:
        """The next timer fires, however late."""
        timer = self.timers.pop(0)
        if not timer.cancelled:
            timer.callback()


class Timer:
    def __init__(self, delay: float, callback: Callable[[], None]) -> None:
        self.delay = delay
        self.callback = callback
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Dog:
    """A watchdog, and what it did."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.asked: list[int] = []
        self.hung: list[float] = []
        self.watchdog = Watchdog(cast(Any, self.clock), self.asked.append, self.hung.append)


@pytest.fixture
def dog() -> Dog:
    return Dog()


def test_one_that_answers_is_asked_at_every_tick(dog: Dog) -> None:
    dog.watchdog.watch(LIMIT)
    for _ in range(100):
        dog.watchdog.answered(dog.asked[-1])
        dog.clock.tick()
    assert dog.asked == list(range(1, 102))
    assert [timer.delay for timer in dog.clock.timers] == [LIMIT / TICKS]
    assert dog.hung == []


def test_silence_for_the_whole_limit_is_a_hang(dog: Dog) -> None:
    dog.watchdog.watch(LIMIT)
    for _ in range(TICKS - 1):
        dog.clock.tick()
    assert dog.hung == []
    dog.clock.tick()
    assert dog.hung == [LIMIT]
    assert dog.asked == [1]
    assert dog.clock.timers == []


def test_an_answer_at_the_last_moment_counts(dog: Dog) -> None:
    dog.watchdog.watch(LIMIT)
    for _ in range(10):
        for _ in range(TICKS - 1):
            dog.clock.tick()
        dog.watchdog.answered(dog.asked[-1])
        dog.clock.tick()
    assert dog.hung == []


def test_an_answer_to_no_question_does_not_count(dog: Dog) -> None:
    dog.watchdog.watch(LIMIT)
    dog.watchdog.answered(1_000_000)
    dog.clock.tick()
    assert dog.asked == [1, 2]
    for _ in range(TICKS):
        dog.clock.tick()
    assert dog.hung == [LIMIT]


def test_whatever_is_heard_is_as_good_as_an_answer(dog: Dog) -> None:
    dog.watchdog.watch(LIMIT)
    for _ in range(10):
        for _ in range(TICKS - 1):
            dog.clock.tick()
        dog.watchdog.heard()
        dog.clock.tick()
    assert dog.hung == []
    for _ in range(TICKS):
        dog.clock.tick()
    assert dog.hung == [LIMIT]
    assert not dog.watchdog.watching


def test_it_may_be_stopped_switched_off_and_set_anew(dog: Dog) -> None:
    dog.watchdog.watch(0)
    assert dog.clock.timers == []
    dog.watchdog.watch(3 * LIMIT)
    dog.clock.tick()
    dog.watchdog.watch(LIMIT)  # what was asked before is not waited for
    assert [timer.delay for timer in dog.clock.timers if not timer.cancelled] == [LIMIT / TICKS]
    dog.watchdog.stop()
    while dog.clock.timers:
        dog.clock.tick()
    assert dog.hung == []
