"""Spans of messages, when a handler asks for them.

Nothing of OpenTelemetry is imported before a message of a connection is traced whose handshake has a span: `spans` is all that
knows the library.
"""

from __future__ import annotations

import contextlib
import sys
from contextlib import AbstractContextManager
from typing import Final

from ...kernel.wire.errors import Invalid
from ..core.items import Message
from .runtime import Runtime

SOURCE: Final = "python://wsrelay.workers.shell.spans"
"""What a host with traced servers imports ahead of the fork, if that is safe."""
_SPANS: Final = SOURCE.removeprefix("python://")


def trace(runtime: Runtime, message: Message) -> AbstractContextManager[None]:
    """See `process.trace`."""
    if not isinstance(message, Message):
        raise Invalid(f"expected a Message, got {type(message).__name__}")
    handshake = runtime.mailbox.trace_of(message.sender)
    if not handshake:
        return contextlib.nullcontext()
    from . import spans

    start = runtime.start
    return spans.message_span(handshake, message, runtime.pid, "" if start is None else start.entry)


def flush() -> None:
    """Export what there is, as at the end of the process, if there is anything."""
    if (spans := sys.modules.get(_SPANS)) is not None:
        spans.flush()
