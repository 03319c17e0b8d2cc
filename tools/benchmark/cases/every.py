"""Every case, in the order of the report."""

from __future__ import annotations

from . import connections, echo, processes
from .model import Case

CASES: dict[str, Case] = {case.name: case for case in (*echo.CASES, *connections.CASES, *processes.CASES)}
