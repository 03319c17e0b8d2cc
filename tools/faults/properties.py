"""What holds whatever fault is injected: the client learns the truth, and nobody else notices.

with check_isolation(runtime, "/ws/other"), runtime.connect("/ws/echo") as client:
    runtime.arm("received", fault)
    client.send("hello")
    check_truth(client, fault)
"""

from __future__ import annotations

import contextlib
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from .clients import TIMEOUT, end_of
from .kinds import CUT, Fault, Scope
from .runtime import Runtime

if TYPE_CHECKING:
    from websockets.sync.client import ClientConnection

PAUSE = 0.01
"""Seconds between two exchanges of a bystander."""

Exchange = Callable[[Any, int], None]


def check_truth(client: ClientConnection, fault: Fault, *, restarts: bool = False, timeout: float = TIMEOUT) -> None:
    """Check that the client of the target that was hit sees what it must (S49): the code and the kind of the reason if it ends,
    and that it is still connected if not. `restarts`: a service will restart the target, so the code is 1012.

    A fault that hangs needs its end first (`outside.kill`): give that as the fault. Raises AssertionError.
    """
    outcome = fault.outcome
    if not outcome.codes:
        _check_connected(client, fault, timeout)
        return
    try:
        code, reason = end_of(client, timeout)
    except TimeoutError:
        raise AssertionError(f"{fault!r}: the client must be closed, and nothing came for {timeout:g} s") from None
    codes = (1012,) if restarts and outcome.ends else outcome.codes
    assert code in codes, f"{fault!r}: the client must see {_either(codes)}, and saw {code} ({reason!r})"
    if outcome.reasons and code != CUT:
        assert reason in outcome.reasons, f"{fault!r}: the reason must be {_either(outcome.reasons)}, and is {reason!r}"


def _check_connected(client: ClientConnection, fault: Fault, timeout: float) -> None:
    from websockets.exceptions import ConnectionClosed

    try:
        answered = client.ping().wait(timeout)
    except ConnectionClosed as closed:
        raise AssertionError(f"{fault!r}: the client must stay connected, and was closed: {closed}") from None
    assert answered, f"{fault!r}: the client must stay connected, and got no pong for {timeout:g} s"


def check_answer(runtime: Runtime, path: str, fault: Fault, *, timeout: float = TIMEOUT) -> None:
    """GET `path`, whose handler the fault will hit, and check that the answer's status is what it must be (S58): 500, 502, or one
    of its own below 500. Raises AssertionError."""
    expected = fault.outcome.status
    try:
        with urllib.request.urlopen(runtime.url(path), timeout=timeout) as answer:
            status = answer.status
    except urllib.error.HTTPError as refused:
        status = refused.code
        refused.close()
    right = status < 500 if expected is None else status == expected
    assert right, f"{fault!r}: the answer must be {expected or 'one of the handler itself'}, and is {status}"


class Bystander:
    """A client on another target that talks to it all the while."""

    def __init__(self, runtime: Runtime, path: str, exchange: Exchange) -> None:
        """Connects, and has had one exchange when this returns."""
        self.exchanges = 0
        self.worst = 0.0
        """Seconds that the slowest exchange took."""
        self.problem: Exception | None = None
        self._exchange = exchange
        self._closing = contextlib.ExitStack()
        self._client = self._closing.enter_context(runtime.connect(path))
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._talk, name="bystander", daemon=True)
        try:
            self._once()
        except BaseException:
            self._closing.close()
            raise
        self._thread.start()

    def _once(self) -> None:
        started = time.monotonic()
        self._exchange(self._client, self.exchanges)
        self.worst = max(self.worst, time.monotonic() - started)
        self.exchanges += 1

    def _talk(self) -> None:
        try:
            while not self._over.wait(PAUSE):
                self._once()
            self._once()  # after all that was done
        except Exception as error:
            self.problem = error

    def finish(self) -> None:
        """Have one more exchange, and leave."""
        self._over.set()
        self._thread.join()
        self._closing.close()


@contextlib.contextmanager
def check_isolation(
    runtime: Runtime, path: str, exchange: Exchange | None = None, *, fault: Fault | None = None, limit: float = TIMEOUT
) -> Iterator[Bystander]:
    """Check that a bystander at `path`, a target of its own, is not disturbed by what the block does: it stays connected, and
    each of its messages is answered as it must be, and within `limit` seconds.

    `exchange(client, number)` sends the bystander's n-th message and checks the answer; by default the target must echo it.
    `fault`: what is injected; if that may cut everybody's line (S40, S41), that is allowed, and nothing else is. Raises
    AssertionError.
    """
    bystander = Bystander(runtime, path, exchange or _echo)
    try:
        yield bystander
    finally:
        bystander.finish()
    may_be_cut = fault is not None and fault.outcome.scope.value >= Scope.CONNECTIONS.value
    if bystander.problem is not None and not (may_be_cut and _is_cut(bystander.problem)):
        done, told = bystander.exchanges, f"{type(bystander.problem).__name__}: {bystander.problem}"
        raise AssertionError(f"a bystander was disturbed after {done} exchanges: {told}\n{runtime.log_end()}")
    assert bystander.worst <= limit, f"a bystander waited {bystander.worst:.3f} s for an answer, more than {limit:g} s"


def _echo(client: ClientConnection, number: int) -> None:
    said = f"bystander {number}"
    client.send(said)
    answer = client.recv(timeout=TIMEOUT)
    assert answer == said, f"expected the echo {said!r}, got {answer!r}"


def _is_cut(problem: Exception) -> bool:
    """Whether the end is one that the runtime's own failure makes: the line is cut, or 1012."""
    from websockets.exceptions import ConnectionClosed

    return isinstance(problem, ConnectionClosed) and (problem.rcvd is None or problem.rcvd.code == 1012)


def _either(values: tuple[object, ...]) -> str:
    return " or ".join(map(str, values))
