"""The fault-injection kit: a real runtime in a test, faults as values, and properties that hold whatever is injected.

docs/testing.md is its guide. Handlers import `point` and `obey` from here, tests the rest. Each name is imported when it is
used, so that a handler pays for none of what a test needs, and a pytest project that does not use the kit for nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import strategies
    from .applications import actor, application, endpoint
    from .clients import RawClient, close_of
    from .inside import InjectedFault, NoChannel, PointsUnreachable, inject, obey, order, point
    from .kinds import (
        ALL,
        BusyLoop,
        ClientGarbage,
        ExitCode,
        Fault,
        ForkKeepsChannel,
        Garbage,
        HoldGIL,
        KillGateway,
        KillHost,
        KillSupervisor,
        MemoryHog,
        NeverReads,
        OsExit,
        Outcome,
        Raise,
        ResetLine,
        Scope,
        Segfault,
        Signal,
        SlowClient,
        StackOverflow,
        Stop,
        TornFrame,
        Where,
        parse,
    )
    from .outside import perform
    from .points import Armed, PointNeverReached
    from .properties import Bystander, check_answer, check_isolation, check_truth
    from .running import running_runtime
    from .runtime import Runtime
    from .views import ProcessView, Snapshot
    from .waiting import wait_until, wait_until_async

_HOMES = {
    "applications": ("actor", "application", "endpoint"),
    "clients": ("RawClient", "close_of"),
    "inside": ("InjectedFault", "NoChannel", "PointsUnreachable", "inject", "obey", "order", "point"),
    "kinds": (
        "ALL", "BusyLoop", "ClientGarbage", "ExitCode", "Fault", "ForkKeepsChannel", "Garbage", "HoldGIL", "KillGateway",
        "KillHost", "KillSupervisor", "MemoryHog", "NeverReads", "OsExit", "Outcome", "Raise", "ResetLine", "Scope", "Segfault",
        "Signal", "SlowClient", "StackOverflow", "Stop", "TornFrame", "Where", "parse",
    ),
    "outside": ("perform",),
    "properties": ("Bystander", "check_answer", "check_isolation", "check_truth"),
    "points": ("Armed", "PointNeverReached"),
    "running": ("running_runtime",),
    "runtime": ("Runtime",),
    "views": ("ProcessView", "Snapshot"),
    "waiting": ("wait_until", "wait_until_async"),
}  # fmt: skip
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "ALL",
    "Armed",
    "BusyLoop",
    "Bystander",
    "ClientGarbage",
    "ExitCode",
    "Fault",
    "ForkKeepsChannel",
    "Garbage",
    "HoldGIL",
    "InjectedFault",
    "KillGateway",
    "KillHost",
    "KillSupervisor",
    "MemoryHog",
    "NeverReads",
    "NoChannel",
    "OsExit",
    "Outcome",
    "PointNeverReached",
    "PointsUnreachable",
    "ProcessView",
    "Raise",
    "RawClient",
    "ResetLine",
    "Runtime",
    "Scope",
    "Segfault",
    "Signal",
    "SlowClient",
    "Snapshot",
    "StackOverflow",
    "Stop",
    "TornFrame",
    "Where",
    "actor",
    "application",
    "check_answer",
    "check_isolation",
    "check_truth",
    "close_of",
    "endpoint",
    "inject",
    "obey",
    "order",
    "parse",
    "perform",
    "point",
    "running_runtime",
    "strategies",
    "wait_until",
    "wait_until_async",
]


def __getattr__(name: str) -> Any:
    if name == "strategies":
        return importlib.import_module(".strategies", __name__)
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOME_OF[name]}", __name__), name)
