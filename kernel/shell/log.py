"""What the supervisor says of the deaths and the services that the process table tells of."""

from __future__ import annotations

import logging

from ..core.effects import ProcessEnded, ServiceChanged
from ..core.service_states import State
from ..wire.pid import Pid
from ..wire.reason import KILLED

logger = logging.getLogger("wsrelay")


def log_end(effect: ProcessEnded) -> None:
    """A death: quietly if it was a clean one, or one that somebody asked for."""
    reason = effect.reason
    if reason.clean or Pid(effect.pid).parts.is_connection:
        logger.debug("%s %s ended: %s", effect.entry, effect.pid, reason)
    elif reason.kind == "exception":
        logger.warning("%s %s ended: %s\n%s", effect.entry, effect.pid, reason, (reason.error or "").rstrip())
    else:
        level = logging.INFO if reason.kind == KILLED else logging.WARNING
        logger.log(level, "%s %s ended: %s", effect.entry, effect.pid, reason)


def log_service(effect: ServiceChanged) -> None:
    """A service is in another state: one that has failed is an error (S37)."""
    level = {State.FAILED: logging.ERROR, State.BACKING_OFF: logging.WARNING}.get(effect.state, logging.INFO)
    logger.log(
        level, "service %s: %s%s", effect.service, effect.state.value, f": {effect.detail}" * bool(effect.detail)
    )
