"""What there is in the process table: for operators, metrics and tests.

Only reads the population, and decides nothing.
"""

from __future__ import annotations

from .population import Population
from .processes import Kind


def census(population: Population) -> tuple[int, int]:
    """How many connections, and how many other processes live."""
    connections = sum(process.kind is Kind.CONNECTION for process in population.processes.values())
    return connections, len(population.processes) - connections


def worker_facts(population: Population, pid: str) -> dict[str, str | int]:
    """What the worker of a process runs: PID, entry and the sizes of its tables; both are empty if there is no such process."""
    process = population.processes.get(pid)
    if process is None:
        return {"pid": "", "entry": ""}
    return {
        "pid": process.pid,
        "entry": process.entry,
        "monitors": len(process.monitoring),
        "links": len(process.links),
        "names": len(process.names),
        "groups": len(process.groups),
    }


def statistics(population: Population) -> dict[str, int]:
    """Sizes of the tables."""
    processes = population.processes.values()
    return {
        "processes": len(processes),
        "workers": len(population.workers),
        "names": len(population.names),
        "monitors": sum(len(process.monitoring) for process in processes),
        "links": sum(len(process.links) for process in processes) // 2,
        "memberships": sum(len(process.groups) for process in processes),
        "watches": sum(len(process.watching) for process in processes),
        "executions": sum(len(process.executing) for process in processes),
    }
