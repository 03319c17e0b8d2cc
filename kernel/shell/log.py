"""What the supervisor says of the deaths and the services that the process table tells of."""

from __future__ import annotations

import logging

from ..core.effects import ProcessEnded, ServiceChanged
from ..core.service_states import State
from ..wire import logs
from ..wire.reason import KILLED

logger = logging.getLogger("wsrelay")


def log_end(effect: ProcessEnded) -> None:
    """A death: quietly if it was a clean one, or one that somebody asked for."""
    reason, pid = effect.reason, effect.pid
    quiet = reason.clean or pid.is_connection
    if quiet and not logger.isEnabledFor(logging.DEBUG):
        return  # that is what happens most
    kind = {"connection" if pid.is_connection else "pid": effect.pid}
    extra = logs.about(**kind, entry=effect.entry, host=pid.parts.host, reason=reason.kind)
    if quiet:
        logger.debug("%s %s ended: %s", effect.entry, effect.pid, reason, extra=extra)
    elif reason.kind == "exception":
        traceback = (reason.error or "").rstrip()
        logger.warning("%s %s ended: %s\n%s", effect.entry, effect.pid, reason, traceback, extra=extra)
    else:
        level = logging.INFO if reason.kind == KILLED else logging.WARNING
        logger.log(level, "%s %s ended: %s", effect.entry, effect.pid, reason, extra=extra)


def log_service(effect: ServiceChanged) -> None:
    """A service is in another state: one that has failed is an error (S37)."""
    level = {State.FAILED: logging.ERROR, State.BACKING_OFF: logging.WARNING}.get(effect.state, logging.INFO)
    detail = f": {effect.detail}" if effect.detail else ""
    extra = logs.about(service=effect.service, state=effect.state.value)
    logger.log(level, "service %s: %s%s", effect.service, effect.state.value, detail, extra=extra)
