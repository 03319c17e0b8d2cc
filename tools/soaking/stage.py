"""Performs programs one after the other, each on the runtime that serves it, and keeps what came of them.

Most share one runtime, which makes visible what grows. One that kills its supervisor has a runtime of its own; after a
violation the next program has a new one.
"""

from __future__ import annotations

import contextlib
from types import TracebackType

from wsrelay.tools.faults.kinds import KillSupervisor

from .interpreter import perform_program
from .program import Program, faults_in
from .session import Outcome, Session, session


class Stage:
    """A context manager: at its end nothing runs any more."""

    def __init__(self) -> None:
        self.faults = 0
        """How many were injected."""
        self.failures = 0
        """How many programs broke a promise."""
        self._shared: Session | None = None
        self._stack = contextlib.ExitStack()

    def perform(self, program: Program) -> Outcome:
        """Perform a program. Raises AssertionError if the runtime does not even start or stop."""
        if any(isinstance(fault, KillSupervisor) for fault in faults_in(program)):
            with session() as own:
                outcome = _begin(own) or perform_program(own, program)
        else:
            if self._shared is None:
                self._shared = self._stack.enter_context(session())
                outcome = _begin(self._shared) or perform_program(self._shared, program)
            else:
                outcome = perform_program(self._shared, program)
            if self._shared.ended:
                self.close()
        self.faults += len(outcome.faults)
        self.failures += outcome.failed
        return outcome

    def close(self) -> None:
        """End the shared runtime; the next program has a new one."""
        self._shared = None
        self._stack.close()

    def __enter__(self) -> Stage:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _begin(new: Session) -> Outcome | None:
    """The first program does nothing; what there is afterwards is the baseline. Its outcome, if it fails."""
    outcome = perform_program(new, ())
    return outcome if outcome.failed else None
