"""How much of a queue is mail (S10): beside a list of all its bytes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from wsrelay.kernel.core.backlog import Backlog

STEPS = st.lists(
    st.tuples(st.just("queue"), st.integers(1, 40), st.booleans())
    | st.tuples(st.sampled_from(["write", "untold"]), st.integers(0, 60), st.none())
)


@given(STEPS)
def test_it_counts_the_mail(steps: list[tuple[str, int, bool | None]]) -> None:  # S10
    backlog = Backlog()
    queue: list[bool] = []
    for step, size, mail in steps:
        if step == "write":
            del queue[:size]
        elif step == "untold":  # queued by somebody else: exempt
            queue += [False] * size
        backlog.settle(len(queue))
        if step == "queue":
            queue += [bool(mail)] * size
            backlog.queue(size, mail=bool(mail))
        assert backlog.mail == sum(queue)


def test_exempt_frames_that_have_been_written_make_no_room_for_mail() -> None:  # S10
    backlog = Backlog()
    for _ in range(1000):  # a slow receiver: its queue is never empty
        backlog.queue(50, mail=False)
        backlog.queue(50, mail=True)
        backlog.settle(100)
    assert backlog.mail == 50
