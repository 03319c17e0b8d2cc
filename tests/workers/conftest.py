"""One fork server for the tests of a module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.worker_lab import Lab


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with Lab(folder=tmp_path_factory.mktemp("sources")) as running:
        yield running
