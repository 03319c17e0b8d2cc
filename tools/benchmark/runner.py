"""Goes through cases: starts the servers, measures all of them in every round, one after the other, and judges the marks.

Interleaving is what makes a comparison fair on a machine that others use too: what disturbs one round disturbs all servers
in it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from .cases.model import Case, Settings
from .load import compiled
from .peers.process import Server
from .peers.registry import PEERS
from .report.text import progress


def run(cases: Iterable[Case], settings: Settings, only: frozenset[str] = frozenset()) -> dict[str, Any]:
    """Measure; returns the results by the name of the case. `only`: leave all other servers out, if it is not empty.

    Raises RuntimeError if there can be no load, or not one of `only`: that is no fault of a server.
    """
    compiled.program()
    cases = list(cases)
    wanted = {name for case in cases for name in case.servers if not only or name in only}
    missing = {name: PEERS[name].missing() for name in wanted}
    for name in sorted(only & wanted):
        if reason := missing[name]:
            raise RuntimeError(f"{PEERS[name].title}: {reason}: 'tools/bench --install-peers' installs peers")
    results = {}
    for case in cases:
        names = [name for name in case.servers if not only or name in only]
        if names:
            available = [name for name in names if not missing[name]]
            lacking = {name: reason for name in names if (reason := missing[name])}
            results[case.name] = run_case(case, settings, available, lacking)
    progress("")
    return results


def run_case(case: Case, settings: Settings, names: list[str], lacking: dict[str, str]) -> dict[str, Any]:
    """Measure one case. A server that fails is reported, and left out of the rounds that follow."""
    rounds: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    failed: dict[str, str] = {}
    ended: set[str] = set()
    with contextlib.ExitStack() as stack:
        servers: dict[str, Server] = {}
        if not case.fresh:
            for name in names:
                with _failures(failed, name):
                    servers[name] = stack.enter_context(_kept_running(name, failed, ended))
            stack.callback(_end_all, servers)
        for number in range(settings.rounds):
            for name in names:
                if name in failed:
                    continue
                progress(f"{case.name}, round {number + 1}/{settings.rounds}: {name}")
                with _failures(failed, name):
                    if case.fresh:
                        with PEERS[name].start(name) as server:
                            rounds[name].append(case.measure(server, settings))
                    else:
                        rounds[name].append(case.measure(servers[name], settings))
                if name in failed and name in servers and not servers[name].runs():
                    ended.add(name)
    return {
        "title": case.title,
        "rounds": settings.rounds,
        "seconds": settings.seconds,
        "servers": {name: found for name, found in rounds.items() if found},
        "missing": lacking,
        "failed": failed,
        "marks": case.judge(rounds, lacking, failed),
    }


@contextlib.contextmanager
def _kept_running(name: str, failed: dict[str, str], ended: Collection[str]) -> Iterator[Server]:
    """A server for all rounds. If it is among those that have ended early, what it said is added to why it failed."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(PEERS[name].start(name))
        try:
            yield server
        finally:
            try:
                stack.close()
            except RuntimeError as problem:
                if name in ended:
                    failed[name] += f"; {problem}"


def _end_all(servers: Mapping[str, Server]) -> None:
    """Have all of them end at once: each is then waited for, one after the other."""
    for server in servers.values():
        server.end()


@contextlib.contextmanager
def _failures(failed: dict[str, str], name: str) -> Any:
    try:
        yield
    except (RuntimeError, OSError, ValueError, KeyError) as problem:
        failed[name] = f"{type(problem).__name__}: {problem}"
