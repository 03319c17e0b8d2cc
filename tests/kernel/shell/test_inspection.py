"""What the supervisor says when a signal asks."""

from __future__ import annotations

import json
import os
import signal

import pytest
from wsrelay.kernel.shell import inspection


def test_the_answers(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspection, "MAX_LISTED", 2)
    answers = inspection.handlers(lambda: {"workers": 3}, lambda: ({"os_pid": number} for number in (1, 2, 3)))
    assert set(answers) == {signal.SIGUSR1, signal.SIGUSR2} == set(inspection.SIGNALS)
    answers[signal.SIGUSR1]()
    [line] = caplog.messages
    said = json.loads(line.removeprefix("statistics "))
    assert said == {"workers": 3, "descriptors": said["descriptors"]}
    caplog.clear()
    answers[signal.SIGUSR2]()
    assert caplog.messages == ['process {"os_pid": 1}', 'process {"os_pid": 2}', "listed 2 of 3 processes"]


def test_descriptors_are_counted() -> None:
    before = inspection.count_descriptors()
    one, other = os.pipe()
    try:
        assert inspection.count_descriptors() == before + 2
    finally:
        os.close(one)
        os.close(other)
