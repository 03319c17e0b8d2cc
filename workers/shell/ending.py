"""How a handler ended: from what it returned or raised to the exit report and the exit code (S18).

A clean report goes with the code 0 and an abnormal one with 1; where there is no report, the code says it all.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import traceback
from types import TracebackType
from typing import NamedTuple

from ...kernel.wire.errors import Invalid, ProcessError
from ...kernel.wire.reason import CANCELLED, EXCEPTION, MAX_VALUE, NORMAL, WireReason, make_reason
from ..core.packing import pack

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_ASYNCIO = os.path.dirname(os.path.abspath(asyncio.__file__)) + os.sep
_IMPORT = "<frozen importlib."


class Ending(NamedTuple):
    """The end of a handler."""

    report: WireReason | None
    code: int
    message: str = ""
    """For stderr: what `sys.exit` was given."""

    @property
    def clean(self) -> bool:
        """Whether it ended well."""
        return self.report is not None and self.report.clean


def ending_of_value(value: object, *, cancelled: bool) -> Ending:
    """The handler returned; `cancelled` says whether it had received a CANCEL."""
    try:
        packed = _pack(value)
        if len(packed) > MAX_VALUE:
            return _exception("LimitExceeded", f"the returned value has {len(packed)} bytes, the limit is {MAX_VALUE}")
    except ProcessError as error:
        return _exception(type(error).__name__, str(error))
    return Ending(make_reason(CANCELLED if cancelled else NORMAL, value=packed), 0)


def _pack(value: object) -> bytes:
    try:
        return pack(value, "the returned value")
    except ProcessError:
        raise
    except Exception as error:  # a container of the user's own that fails while it is read
        raise Invalid(f"the returned value cannot be carried: {type(error).__name__}") from None


def ending_of_error(error: BaseException) -> Ending:
    """The handler raised."""
    if isinstance(error, SystemExit):
        if error.code is None or error.code == 0:
            return Ending(make_reason(NORMAL), 0)
        if isinstance(error.code, int):
            return Ending(None, error.code & 0xFF)
        return Ending(None, 1, str(error.code))
    name, message = type(error).__name__, ""
    with contextlib.suppress(Exception):
        message = str(error).partition("\n")[0]
    return _exception(name, message, _format(error))


def _exception(name: str, message: str, error: str | None = None) -> Ending:
    detail = f"{name}: {message}" if message else name
    return Ending(make_reason(EXCEPTION, detail, error=error), 1)


def _format(error: BaseException) -> str | None:
    """The traceback, without the frames that lead from the runtime to the user's code."""
    try:
        return "".join(traceback.format_exception(type(error), error, _user_part(error.__traceback__)))
    except Exception:  # a __str__ that raises, or no memory
        return None


def _user_part(frames: TracebackType | None) -> TracebackType | None:
    while frames is not None:
        file_name = frames.tb_frame.f_code.co_filename
        if not file_name.startswith((_PACKAGE, _ASYNCIO, _IMPORT)) and "importlib" + os.sep not in file_name:
            return frames
        frames = frames.tb_next
    return None


def flush_output() -> None:
    """Write out what the handler has printed."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
