"""For every test: nothing may be left behind, and Hypothesis says how to repeat what it found."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from support.hygiene import nothing_left_behind

settings.register_profile("default", deadline=None, print_blob=True)
settings.register_profile("ci", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("thorough", deadline=None, print_blob=True, max_examples=5000)
# For tools/mutate, which asks only whether a test fails.
settings.register_profile("unshrunk", deadline=None, phases=(Phase.explicit, Phase.generate))
settings.load_profile(os.environ.get("WSRELAY_HYPOTHESIS", "ci" if os.environ.get("CI") else "default"))


def pytest_report_header(config: pytest.Config) -> str:
    return f"Hypothesis seed: {config.getoption('--hypothesis-seed', default=None)} (repeat with --hypothesis-seed=N)"


FIRST = (
    "faults/test_random_programs.py", "system/test_limits.py", "system/test_service_manager.py", "tools/test_isolation.py",
    "system/test_operator_commands.py", "system/test_gateway_death.py", "system/test_reload.py",
    "system", "faults", "tools", "gateway",
)  # fmt: skip
"""The files that take half a minute, then the folders of the longer tests: what begins last should be short, so that all processors
are busy until the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def place(item: pytest.Item) -> int:
        path = item.path.relative_to(Path(__file__).parent)
        return next((place for place, first in enumerate(FIRST) if path.is_relative_to(first)), len(FIRST))

    items.sort(key=place)


@pytest.fixture(autouse=True)
def _hygiene() -> Iterator[None]:
    with nothing_left_behind():
        yield
