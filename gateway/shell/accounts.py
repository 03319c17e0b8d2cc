"""What is counted, and written to the access log, of each request and of each connection.

Owns the lines of the access log. In them are no query strings, no payloads, no headers and no reasons that a client gave. Knows
nothing of metrics' names: it adds to `ServerCounts`.
"""

from __future__ import annotations

import logging
import time
from typing import Final, Protocol
from urllib.parse import quote

from ...kernel.wire import logs
from ...kernel.wire.pid import Pid
from ...kernel.wire.reason import WireReason
from ..core.counts import code_label, initiator
from ..core.requests import RequestHead
from ..core.session import Session
from .service import Service

logger = logging.getLogger("wsrelay.access")

CLIENT_GONE: Final = 499
"""Stands for the status of a request whose client was gone before the answer; nobody is sent it (nginx has the number)."""
_MAX_PATH: Final = 256
_MAX_METHOD: Final = 16


class Traffic(Protocol):
    """What a connection has counted."""

    session: Session
    sent: int
    received: int

    def bytes_queued(self) -> int:
        """Bytes handed to the transport so far."""


def request_answered(service: Service, head: RequestHead | None, peer: str, status: int, since: float) -> None:
    """A request has its answer, or `CLIENT_GONE`. `head` is None if it could not be read; `since` is when it was there (time.monotonic)."""
    seconds = time.monotonic() - since
    service.counts.requests[status] += 1
    service.counts.request_seconds.observe(seconds)
    if not service.access_log:
        return
    method, path = ("-", "-") if head is None else (head.method[:_MAX_METHOD], shown_path(head.path))
    remote = peer if head is None else head.remote_address
    logger.info(
        "%s %s %s %d %.1f ms",
        remote or "-",
        method,
        path,
        status,
        seconds * 1000,
        extra=logs.about(
            server=service.id, remote=remote, method=method, path=path, status=status, seconds=f"{seconds:.4f}"
        ),
    )


def shown_path(path: str) -> str:
    """Return a decoded path for a log: encoded again, and cut if it is too long."""
    return quote(path[:_MAX_PATH], errors="replace") + ("…" if len(path) > _MAX_PATH else "")


class Account:
    """One connection's."""

    def __init__(self, service: Service, session: Session, head: RequestHead | None) -> None:
        """It opens. `head` is that of its handshake."""
        self._service = service
        self._since = time.monotonic()
        self._remote = "" if head is None else head.remote_address
        service.counts.opened += 1
        if service.access_log:
            path = "-" if head is None else shown_path(head.path)
            logger.info(
                "%s %s %s opened to %s",
                self._remote or "-",
                session.pid,
                path,
                session.target.pid,
                extra=self._about(session, path=path),
            )

    @property
    def server(self) -> str:
        """The id of its `http.service`."""
        return self._service.id

    def _about(self, session: Session, **fields: object) -> dict[str, dict[str, str]]:
        target = session.target.pid
        return logs.about(
            server=self._service.id,
            connection=session.pid,
            target=target,
            host=Pid(target).parts.host,
            remote=self._remote,
            **fields,
        )

    def close(self, connection: Traffic, reason: WireReason) -> None:
        """It has ended with this reason (S51)."""
        session, counts = connection.session, self._service.counts
        seconds = time.monotonic() - self._since
        leave, code = session.ending
        code_text, who = code_label(leave, code), initiator(leave, session.closer)
        counts.closed[code_text, who] += 1
        counts.slow_clients += leave == "slow_client"
        counts.connection_seconds.observe(seconds)
        counts.messages_received += session.message_count
        counts.messages_sent += connection.sent
        counts.bytes_received += connection.received
        counts.bytes_sent += connection.bytes_queued()
        if not self._service.access_log:
            return
        shown_code = code_text if code is None or leave == "connection_lost" else str(code)
        logger.info(
            "%s %s closed by %s: code %s, %s, %s; %.1f s; %d messages and %d bytes in, %d and %d out",
            self._remote or "-",
            session.pid,
            who,
            shown_code,
            leave,
            reason.kind,
            seconds,
            session.message_count,
            connection.received,
            connection.sent,
            connection.bytes_queued(),
            extra=self._about(
                session,
                code=shown_code,
                initiator=who,
                leave=leave,
                reason=reason.kind,
                seconds=f"{seconds:.3f}",
                messages_in=session.message_count,
                bytes_in=connection.received,
                messages_out=connection.sent,
                bytes_out=connection.bytes_queued(),
            ),
        )
