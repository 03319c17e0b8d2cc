"""From a method and a path to a route or a static mount.

Owns the syntax of paths (`/rooms/{name}`, `/files/{rest...}`) and their precedence: a literal segment before a parameter
before a rest. The raw path is split before it is decoded, so that `%2F` stays within its segment. A path that cannot be
decoded, or that climbs (`..`), is nobody's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias
from urllib.parse import unquote_to_bytes

from ...kernel.wire.configuration import Route, Static

_PARAMETER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)(\.\.\.)?\}", re.ASCII)


@dataclass(frozen=True, slots=True)
class RouteMatch:
    """A route, with the parameters of its path, decoded."""

    route: Route
    parameters: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class StaticMatch:
    """A static mount, with the segments of the path below it, decoded and without empty or climbing ones."""

    static: Static
    segments: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NoMatch:
    """400 for a malformed path, 404, or 405 with the methods that are allowed."""

    status: int
    allow: tuple[str, ...] = ()


Match: TypeAlias = RouteMatch | StaticMatch | NoMatch


class _Pattern:
    def __init__(self, route: Route) -> None:
        self.route = route
        self.names: list[str] = []
        self.rest: str | None = None
        self._literals: list[str | None] = []
        rank = []
        for segment in route.path.split("/")[1:]:
            parameter = _PARAMETER.fullmatch(segment)
            if parameter is None:
                self._literals.append(segment)
            elif parameter[2]:
                self.rest = parameter[1]
            else:
                self._literals.append(None)
                self.names.append(parameter[1])
            rank.append(0 if parameter is None else 2 if parameter[2] else 1)
        self.precedence = (rank, route.path)
        self.is_literal = not any(rank)

    def match(self, segments: list[str]) -> tuple[tuple[str, str], ...] | None:
        fixed = len(self._literals)
        if len(segments) < fixed + (self.rest is not None) or (self.rest is None and len(segments) > fixed):
            return None
        values = []
        for literal, segment in zip(self._literals, segments, strict=False):
            if literal is None:
                if not segment:
                    return None
                values.append(segment)
            elif literal != segment:
                return None
        parameters = list(zip(self.names, values, strict=True))
        if self.rest is not None:
            parameters.append((self.rest, "/".join(segments[fixed:])))
        return tuple(parameters)


class Router:
    """The routes and static mounts of one server."""

    def __init__(self, routes: Iterable[Route], statics: Iterable[Static] = ()) -> None:
        self._patterns = sorted(map(_Pattern, routes), key=lambda pattern: pattern.precedence)
        mounts = [([part for part in static.path.split("/") if part], static) for static in statics]
        self._mounts = sorted(mounts, key=lambda mount: -len(mount[0]))
        literal = [pattern.route for pattern in self._patterns if pattern.is_literal]
        self._known = {(route.method, route.path): self._search(route.method, route.path) for route in literal}
        """What is found for the paths of routes without parameters: most requests are for those, and need no search."""

    def match(self, method: str, raw_path: str) -> Match:
        """Find what answers `method` on the undecoded path. HEAD is answered by GET's route; a route goes before a
        static mount."""
        known = self._known.get((method, raw_path))
        return self._search(method, raw_path) if known is None else known

    def _search(self, method: str, raw_path: str) -> Match:
        segments = decode_path(raw_path)
        if segments is None:
            return NoMatch(400)
        allow: dict[str, None] = {}
        for pattern in self._patterns:
            parameters = pattern.match(segments)
            if parameters is None:
                continue
            if pattern.route.method == method or (method == "HEAD" and pattern.route.method == "GET"):
                return RouteMatch(pattern.route, parameters)
            allow[pattern.route.method] = None
            if pattern.route.method == "GET":
                allow["HEAD"] = None
        if allow:
            return NoMatch(405, tuple(allow))
        return self._match_static(method, segments)

    def _match_static(self, method: str, segments: list[str]) -> Match:
        for prefix, static in self._mounts:
            if segments[: len(prefix)] == prefix:
                if method not in ("GET", "HEAD"):
                    return NoMatch(405, ("GET", "HEAD"))
                return StaticMatch(static, tuple(segment for segment in segments[len(prefix) :] if segment))
        return NoMatch(404)


def origin_form(target: str) -> str:
    """Return the undecoded path of a request target in origin or absolute form (RFC 9112 §3.2); empty if it has none."""
    if target.startswith("/"):
        return target
    _, separator, rest = target.partition("://")
    return "/" + rest.partition("/")[2] if separator else ""


def decode_path(raw_path: str) -> list[str] | None:
    """Return the decoded segments of an undecoded path (origin or absolute form); None if it is malformed or climbs."""
    raw_path = origin_form(raw_path)
    if not raw_path:
        return None
    try:
        segments = [unquote_to_bytes(segment).decode() for segment in raw_path.split("/")[1:]]
    except UnicodeDecodeError:
        return None
    if any(segment in (".", "..") or "\0" in segment for segment in segments):
        return None
    return segments
