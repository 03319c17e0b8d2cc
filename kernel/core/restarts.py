"""Whether and when a service comes back: restart types, backoff and intensity (S36 to S38).

Pure arithmetic on the policy, the past and one random number; nothing here changes.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from ..wire.configuration import Restart
from ..wire.reason import WireReason

PERMANENT = "permanent"
TRANSIENT = "transient"
TEMPORARY = "temporary"


class Past(NamedTuple):
    """What a service has been through since it was told to start."""

    attempt: int = 0
    """How many restarts in a row, none of which became stable."""
    restarts: tuple[float, ...] = ()
    """When it was restarted, as far as that counts for the intensity."""


NO_PAST: Final = Past()


class Comeback(NamedTuple):
    """A restart that is due."""

    due: float
    """On the clock that `plan_restart` was given."""
    past: Past
    """With this restart."""


def wants_restart(policy: Restart, reason: WireReason) -> bool:
    """Whether the type of the policy asks for a restart (S36)."""
    return policy.type == PERMANENT or (policy.type == TRANSIENT and not reason.clean)


def backoff(policy: Restart, attempt: int, random: float) -> float:
    """Return the seconds before the `attempt`-th restart in a row, from 1 (S38); `random` is from 0 to 1.

    `jitter` is a share of the delay: 0.1 spreads it over the tenth below and the tenth above.
    """
    try:
        delay = min(policy.max_delay, policy.initial_delay * policy.backoff_factor ** (attempt - 1))
    except OverflowError:
        delay = policy.max_delay if policy.initial_delay else 0.0
    return delay * (1 + policy.jitter * (2 * random - 1))


def plan_restart(policy: Restart, past: Past, *, stable: bool, now: float, random: float) -> Comeback | None:
    """Return the next restart, or None to give up (S37).

    Counted are the times at which a new process is made, not those of the deaths: so no `period` sees more than
    `intensity` restarts, whatever the delays are.
    """
    attempt = 1 if stable else past.attempt + 1
    due = now + backoff(policy, attempt, random)
    restarts = (*(time for time in past.restarts if time > due - policy.period), due)
    return Comeback(due, Past(attempt, restarts)) if len(restarts) <= policy.intensity else None
