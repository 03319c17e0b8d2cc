"""Files of an `http.static` (GET and HEAD).

Owns the way from a matched path to a file below the mount's directory, and its answer. Nothing outside the directory is
served, not through a symbolic link either. Files are opened and read in threads, a piece at a time.
"""

from __future__ import annotations

import asyncio
import mimetypes
import os
import stat
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from email.utils import formatdate, parsedate_to_datetime
from pathlib import Path
from typing import BinaryIO, Final
from urllib.parse import quote

from ..core.answers import Answer, Headers, plain_answer
from ..core.requests import RequestHead
from ..core.routing import StaticMatch
from .descriptors import are_used_up

_PIECE: Final = 64 << 10


@dataclass(frozen=True, slots=True)
class FileAnswer:
    """An open file: the caller reads it with `read_pieces`, which closes it, or closes it."""

    file: BinaryIO
    size: int
    headers: Headers
    of_directory: bool
    """Whether it is the index of the directory that the path names."""


async def find_file(match: StaticMatch, head: RequestHead) -> FileAnswer | Answer:
    """Return the file that a path names, 304 if the client has it, 308 to a directory's own path, or 404. Raises OSError if no descriptor is left."""
    return await asyncio.to_thread(_find, match, head)


async def read_pieces(answer: FileAnswer) -> AsyncGenerator[bytes, None]:
    """Yield the content, exactly as long as was announced, and close the file."""
    left = answer.size
    try:
        while left:
            piece = await asyncio.to_thread(answer.file.read, min(left, _PIECE))
            if not piece:
                raise OSError("a static file became shorter while it was sent")
            left -= len(piece)
            yield piece
    finally:
        answer.file.close()


def _find(match: StaticMatch, head: RequestHead) -> FileAnswer | Answer:
    static = match.static
    root = os.path.realpath(static.directory)
    answer = _open(root, match.segments, static.index)
    if answer is None and static.spa:
        answer = _open(root, (static.index,), static.index)
    if answer is None:
        return plain_answer(404)
    if answer.of_directory and not head.path.endswith("/"):
        answer.file.close()
        return plain_answer(308, headers=(("location", _with_slash(match, head)),))
    if _is_fresh(head, dict(answer.headers)):
        answer.file.close()
        return Answer(304, tuple(pair for pair in answer.headers if pair[0] != "content-type"))
    return answer


def _with_slash(match: StaticMatch, head: RequestHead) -> str:
    """The path with a slash after it, so that relative links of the page are below it. It is told relative to the request's own:
    a proxy may have taken something off that, and one that begins with `//` would name another host."""
    last = [part for part in (*match.static.path.split("/"), *match.segments) if part][-1]
    return f"./{quote(last, safe='', errors='replace')}/" + (f"?{head.query}" if head.query else "")


def _open(root: str, segments: tuple[str, ...], index: str) -> FileAnswer | None:
    if any("/" in segment for segment in segments):
        return None
    try:
        path = os.path.realpath(Path(root, *segments), strict=True)
        of_directory = os.path.isdir(path)
        if of_directory:
            path = os.path.realpath(os.path.join(path, index), strict=True)
        if os.path.commonpath([root, path]) != root:
            return None
        # Non-blocking, so that a FIFO does not hold the thread.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
    except (OSError, ValueError) as problem:
        if isinstance(problem, OSError) and are_used_up(problem):
            raise
        return None
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        return None
    return FileAnswer(os.fdopen(descriptor, "rb"), status.st_size, _headers(path, status), of_directory)


def _headers(path: str, status: os.stat_result) -> Headers:
    kind, encoding = mimetypes.guess_type(path)
    if kind is None or encoding is not None:
        kind = "application/octet-stream"
    if kind.startswith("text/") or kind in ("application/javascript", "application/json"):
        kind += "; charset=utf-8"
    return (
        ("content-type", kind),
        ("etag", f'"{status.st_mtime_ns:x}-{status.st_size:x}"'),
        ("last-modified", formatdate(status.st_mtime, usegmt=True)),
        ("cache-control", "no-cache"),
        ("x-content-type-options", "nosniff"),
    )


def _is_fresh(head: RequestHead, headers: dict[str, str]) -> bool:
    """Whether the client has this very file (RFC 9110 §13.1)."""
    tags = head.header("if-none-match")
    if tags is not None:
        return any(tag.strip().removeprefix("W/") in (headers["etag"], "*") for tag in tags.split(","))
    since = head.header("if-modified-since")
    if since is None:
        return False
    try:
        return parsedate_to_datetime(headers["last-modified"]) <= parsedate_to_datetime(since)
    except (ValueError, TypeError):
        return False
