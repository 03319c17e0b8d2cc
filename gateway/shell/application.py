"""Plain HTTP: from a routed request to its response.

Owns the reading of bodies, the invocation of handlers for requests that are no upgrade, and the writing of responses. An
ASGI application, because that is what uvicorn runs. No traceback ever reaches a client.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterable

from uvicorn._types import ASGIReceiveCallable, ASGISendCallable, Scope

from ..core.answers import Answer, clean_answer, framing_headers, overloaded, plain_answer, upgrade_required
from ..core.relay_header import MalformedHeader, find_relay_header, parse_relay_header
from ..core.requests import RequestHead
from ..core.routing import NoMatch, RouteMatch, StaticMatch
from .accounts import CLIENT_GONE, request_answered
from .http_protocol import HttpProtocol
from .invocations import Completed
from .relay import Relay
from .service import Service
from .static_files import FileAnswer, find_file, read_pieces

logger = logging.getLogger("wsrelay.gateway")

_CLOSE = (("connection", "close"),)
_CLOSE_HEADER = (b"connection", b"close")


class ClientGone(Exception):
    """The client has closed the connection; there is nobody to answer."""


class Application:
    """The HTTP side of one service."""

    def __init__(self, relay: Relay, service: Service) -> None:
        self._relay = relay
        self._service = service

    async def __call__(self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        protocol: HttpProtocol = scope["state"]["protocol"]
        try:
            answer = await self._answer(protocol, receive)
        except ClientGone:
            if not protocol.refused:
                request_answered(self._service, protocol.request_head, protocol.peer, CLIENT_GONE, protocol.since)
            return
        except Exception:
            logger.exception("a request could not be answered")
            answer = plain_answer(500)
        status = 200 if isinstance(answer, FileAnswer) else answer.status
        if protocol.cycle.disconnected:
            status = CLIENT_GONE
        request_answered(self._service, protocol.request_head, protocol.peer, status, protocol.since)
        if isinstance(answer, FileAnswer):
            await _send_file(answer, protocol, send)
        else:
            headers = list(framing_headers(answer))
            if protocol.body_is_coming and _CLOSE_HEADER not in headers:
                headers.append(_CLOSE_HEADER)  # it was answered without its body: nobody is to parse the rest
            await _send(answer.status, headers, answer.body, send)

    async def _answer(self, protocol: HttpProtocol, receive: ASGIReceiveCallable) -> Answer | FileAnswer:
        match, head = protocol.match, protocol.request_head
        if match is None or head is None or protocol.head_is_too_large():
            return plain_answer(431, headers=_CLOSE)
        if isinstance(match, NoMatch):
            return plain_answer(match.status, headers=(("allow", ", ".join(match.allow)),) if match.allow else ())
        if isinstance(match, StaticMatch):
            try:
                return await find_file(match, head)
            except OSError:
                self._service.descriptors.report_refusal()
                return overloaded("Too many files are open")
        body = await self._read_body(head, receive)
        if isinstance(body, Answer):
            return body
        return await self._invoke(protocol, match, head, body)

    async def _read_body(self, head: RequestHead, receive: ASGIReceiveCallable) -> bytes | Answer:
        limit = self._service.body_limit
        announced = head.header("content-length") or "0"
        # Checked before the first `receive`, which would say 100 Continue.
        if len(announced) > 18 or int(announced) > limit:
            return plain_answer(413, headers=_CLOSE)
        body = bytearray()
        try:
            async with asyncio.timeout(self._service.timeouts.request):
                more = True
                while more:
                    message = await receive()
                    if message["type"] != "http.request":
                        raise ClientGone
                    body += message.get("body", b"")
                    more = message.get("more_body", False)
                    if len(body) > limit:
                        return plain_answer(413, headers=_CLOSE)
        except TimeoutError:
            return plain_answer(408, headers=_CLOSE)
        return bytes(body)

    async def _invoke(self, protocol: HttpProtocol, match: RouteMatch, head: RequestHead, body: bytes) -> Answer:
        route = match.route
        started = self._relay.invocations.invoke(
            self._service, route.function, lambda pid: head.to_record(pid, match.parameters, body)
        )
        if isinstance(started, Answer):
            return started
        protocol.invocation = started
        outcome = await started.outcome
        protocol.invocation = None
        if isinstance(outcome, Answer):
            return outcome
        try:
            return self._translate(outcome, relayed=route.relay)
        except MalformedHeader as problem:
            logger.error("%s: malformed X-WS-Relay: %s", route.function, problem)
        except ValueError as problem:
            logger.error("%s: malformed response: %s", route.function, problem)
        return plain_answer(500)

    def _translate(self, outcome: Completed, *, relayed: bool) -> Answer:
        """The handler's response as the client gets it: 426 if it is for WebSocket clients."""
        response = outcome.response
        header = find_relay_header(response.headers)
        if not relayed or header is None:
            return clean_answer(response.status, response.headers, response.body)
        self._relay.abandon_named(header, outcome.pid)
        parse_relay_header(header)
        return upgrade_required()


async def _send(status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes, send: ASGISendCallable) -> None:
    extra = [(b"connection", b"upgrade")] if status == 426 else []
    await send({"type": "http.response.start", "status": status, "headers": [*headers, *extra], "trailers": False})
    await send({"type": "http.response.body", "body": body, "more_body": False})


async def _send_file(answer: FileAnswer, protocol: HttpProtocol, send: ASGISendCallable) -> None:
    headers = [(name.encode("ascii"), value.encode("latin-1")) for name, value in answer.headers]
    headers.append((b"content-length", b"%d" % answer.size))
    if protocol.body_is_coming:
        headers.append(_CLOSE_HEADER)
    await send({"type": "http.response.start", "status": 200, "headers": headers, "trailers": False})
    if protocol.scope["method"] == "HEAD":
        answer.file.close()
    else:
        async with contextlib.aclosing(read_pieces(answer)) as pieces:
            async for piece in pieces:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
                if protocol.cycle.disconnected:  # nobody takes the rest
                    return
    await send({"type": "http.response.body", "body": b"", "more_body": False})
