"""The states of a supervised service, and what leads from one to the next (S36 to S39).

A table, from which the diagram in docs/services.md is drawn. What is not in it does not happen. When an input comes is
decided in `services`.
"""

from __future__ import annotations

import enum
from typing import Final


class State(enum.Enum):
    """Where a service is."""

    STOPPED = "stopped"
    """Never started, or told to stop: it has no process, and gets none until it is told to start."""
    WAITING = "waiting"
    """Told to start: a service that it requires does not run yet."""
    STARTING = "starting"
    """Its process has a PID and its name, and has not been forked yet."""
    RUNNING = "running"
    BACKING_OFF = "backing off"
    """Its process ended; a new one will be made when the delay is over."""
    REPLACING = "replacing"
    """Its process has CANCEL; the next one is made when it has ended (reload, rolling restart)."""
    RETIRING = "retiring"
    """Told to stop: its process lives on until those that require it have stopped."""
    STOPPING = "stopping"
    """Its process has CANCEL; SIGKILL follows after `stop_timeout`."""
    FINISHED = "finished"
    """Its process ended cleanly, and it is not of a type that comes back. To others it counts as running: its work is done."""
    FAILED = "failed"
    """Given up, or ended abnormally and not of a type that comes back. Nothing starts it until it is told to."""


class Input(enum.Enum):
    """What happens to a service."""

    START = "start"
    REQUIREMENTS_RUN = "all it requires run"
    BORN = "forked"
    RESTART = "ended, will restart"
    FINISH = "ended cleanly for good"
    FAIL = "given up"
    DELAY_OVER = "delay over"
    STOP = "stop"
    REPLACE = "replace"
    DEPENDENTS_GONE = "nobody requires it"
    END = "ended"


TRANSITIONS: Final[dict[tuple[State, Input], State]] = {
    (State.STOPPED, Input.START): State.WAITING,
    (State.FINISHED, Input.START): State.WAITING,
    (State.FAILED, Input.START): State.WAITING,
    (State.WAITING, Input.REQUIREMENTS_RUN): State.STARTING,
    (State.WAITING, Input.STOP): State.STOPPED,
    (State.STARTING, Input.BORN): State.RUNNING,
    (State.STARTING, Input.RESTART): State.BACKING_OFF,
    (State.STARTING, Input.FINISH): State.FINISHED,
    (State.STARTING, Input.FAIL): State.FAILED,
    (State.STARTING, Input.STOP): State.RETIRING,
    (State.RUNNING, Input.RESTART): State.BACKING_OFF,
    (State.RUNNING, Input.FINISH): State.FINISHED,
    (State.RUNNING, Input.FAIL): State.FAILED,
    (State.RUNNING, Input.STOP): State.RETIRING,
    (State.RUNNING, Input.REPLACE): State.REPLACING,
    (State.REPLACING, Input.END): State.STARTING,
    (State.REPLACING, Input.FINISH): State.FINISHED,
    (State.REPLACING, Input.FAIL): State.FAILED,
    (State.REPLACING, Input.STOP): State.RETIRING,
    (State.BACKING_OFF, Input.DELAY_OVER): State.STARTING,
    (State.BACKING_OFF, Input.STOP): State.STOPPED,
    (State.RETIRING, Input.DEPENDENTS_GONE): State.STOPPING,
    (State.RETIRING, Input.END): State.STOPPED,
    (State.STOPPING, Input.END): State.STOPPED,
}

ALIVE: Final = frozenset({State.STARTING, State.RUNNING, State.REPLACING, State.RETIRING, State.STOPPING})
"""The states in which a service has a process."""
COMING: Final = frozenset({State.WAITING, State.STARTING, State.RUNNING, State.REPLACING, State.BACKING_OFF})
"""The states in which a service has a process that may go on, or will have one (S56)."""
BEING_STOPPED: Final = frozenset({State.RETIRING, State.STOPPING})


def render_diagram() -> str:
    """Return the table as a Mermaid state diagram."""
    names = {state: state.value.replace(" ", "_") for state in State}
    lines = ["stateDiagram-v2", f"    [*] --> {names[State.STOPPED]}"]
    lines += [f"    {names[old]} --> {names[new]}: {input.value}" for (old, input), new in TRANSITIONS.items()]
    return "\n".join(lines)
