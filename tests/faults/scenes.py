"""Journals that the checker's tests begin with, and what it finds in them."""

from __future__ import annotations

from support.invented import Paper, connection, pid
from wsrelay.kernel.wire import journal_records as j
from wsrelay.tools.faults.checker import check
from wsrelay.tools.faults.entry import Entry

A, B, C = pid(1), pid(2), pid(3)
K = connection(1)
SERVICE = j.ServiceConfigured("app:s", "transient", 1.0, 8.0, 2.0, 0.0, 2, 60.0, 5.0, "")


def start() -> Paper:
    """Three processes live."""
    paper = Paper()
    for _ in range(3):
        paper.spawn()
    return paper


def watch_a_group(paper: Paper) -> None:
    paper.supervise(j.GroupWatched(B, 1, "g", ()), j.GroupJoined("g", A, 1), j.GroupTold(B, 1, A, True))
    paper.readable(B, "GROUP", A, ref=1, kind="joined")


def send_and_take(paper: Paper, *topics: str) -> None:
    """A sends, and B takes this."""
    for topic in ("item", "other"):
        paper.write("worker", j.Sent(A, (B,), topic, 1), 100)
        paper.readable(B, "message", A, topic=topic, size=1)
    for topic in topics:
        paper.write("worker", j.Taken(B, "message", A, topic), 101)


def serve(paper: Paper, *pauses: float, kind: str = "exception") -> None:
    """A service that dies and comes back after each pause."""
    paper.supervise(SERVICE, j.ServiceChanged("app:s", "waiting"))
    for pause in (*pauses, None):
        made = paper.spawn("app:s")
        paper.supervise(j.ServiceChanged("app:s", "starting"), j.ServiceChanged("app:s", "running"))
        if pause is not None:
            paper.die(made, kind)
            paper.supervise(j.ServiceChanged("app:s", "backing off"))
            paper.time += pause


def answer(paper: Paper, *received: int) -> None:
    """A handler sends a client three numbered messages; these arrive."""
    conn = paper.client(1, "c", (A, 1))
    for number in (1, 2, 3):
        paper.write("worker", j.NumberSent(A, conn, number))
    for number in received:
        paper.write("test", j.ClientReceived("c", number, A))
    paper.waits(A)


def broken(entries: list[Entry]) -> set[int]:
    """The numbers of the invariants that are violated."""
    violations = check(entries)
    for violation in violations:
        assert violation.evidence
        assert str(violation).startswith(f"invariant {violation.invariant}: ")
    return {violation.invariant for violation in violations}
