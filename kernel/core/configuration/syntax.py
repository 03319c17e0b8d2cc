"""The small languages inside values: addresses, origins, path templates, names.

Owns their syntax and their normal forms. Knows nothing of YAML or entries. Every function takes text, returns the normal
form, and raises `Mistake` with what was expected.
"""

from __future__ import annotations

import ipaddress
import keyword
import posixpath
import re
from dataclasses import dataclass

from .problems import Mistake, shown

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", re.ASCII)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_HOST = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)(\.(?!-)[A-Za-z0-9_-]{1,63}(?<!-))*", re.ASCII)
_HOST = re.compile(r"\[[0-9a-f:.]+\]|[a-z0-9._-]+", re.ASCII)
_ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://(\[[^\]]*\]|[^:/?#\[\]@]*)(?::([0-9]*))?", re.ASCII)
_PORT = re.compile(r"[0-9]{1,5}", re.ASCII)
_PARAMETER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)(\.\.\.)?\}", re.ASCII)
_DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}

MAX_NAME_LENGTH = 99
"""So that an id, namespace and name, fits into a PID."""
MAX_ORIGIN_LENGTH = 300
MAX_UNIX_PATH = 107
"""Bytes; sun_path in unix(7) holds 108 with the NUL."""


def parse_name(text: str) -> str:
    """Check the name of an entry or of a namespace."""
    if _NAME.fullmatch(text) is None or len(text) > MAX_NAME_LENGTH:
        raise Mistake(
            f"expected at most {MAX_NAME_LENGTH} letters, digits and _.- that start with a letter, digit or _, got {shown(text)}"
        )
    return text


def parse_variable(text: str) -> str:
    """Check the name of an environment variable."""
    if _VARIABLE.fullmatch(text) is None or len(text) > MAX_NAME_LENGTH:
        raise Mistake(
            f"expected at most {MAX_NAME_LENGTH} letters, digits and _ that start with a letter or _, got {shown(text)}"
        )
    return text


def parse_reference(text: str) -> str:
    """Check a reference: `name` or `namespace:name`."""
    namespace, colon, name = text.rpartition(":")
    if _NAME.fullmatch(name) is None or (colon and _NAME.fullmatch(namespace) is None):
        raise Mistake(f"expected name or namespace:name, got {shown(text)}")
    return text


@dataclass(frozen=True, slots=True)
class Address:
    """A listening address in its parts; a `unix:` address has the port None and the path as its host."""

    host: str
    port: int | None

    @property
    def is_local(self) -> bool:
        """Whether only this machine can connect there."""
        return self.port is None or self.host in ("localhost", "::1") or self.host.startswith("127.")

    def collides(self, other: Address) -> bool:
        """Whether both cannot be bound at once. Port 0 is a fresh port each time."""
        if self.port != other.port or self.port == 0:
            return False
        if self.port is None:
            return self.host == other.host
        return self.host == other.host or _covers(self.host, other.host) or _covers(other.host, self.host)


def _covers(wildcard: str, host: str) -> bool:
    return (
        wildcard == ""
        or (wildcard == "0.0.0.0" and ":" not in host)
        or (wildcard == "::" and ":" in host)
        or (host == "" and wildcard in ("0.0.0.0", "::"))
    )


def split_address(text: str) -> Address:
    """Take an address apart: `host:port`, `:port`, `[v6]:port` or `unix:/path`."""
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        if not path.startswith("/") or len(path.encode()) > MAX_UNIX_PATH:
            raise Mistake(f"expected unix: and an absolute path of at most {MAX_UNIX_PATH} bytes, got {shown(text)}")
        return Address(posixpath.normpath(path), None)
    host, colon, port = text.rpartition(":")
    if not colon or _PORT.fullmatch(port) is None or int(port) > 65535:
        raise Mistake(f"expected host:port, :port, [v6]:port or unix:/path with a port up to 65535, got {shown(text)}")
    if host.startswith("[") and host.endswith("]"):
        try:
            return Address(str(ipaddress.IPv6Address(host[1:-1])), int(port))
        except ValueError:
            raise Mistake(f"expected an IPv6 address in the brackets, got {shown(text)}") from None
    if host and not _is_host(host):
        raise Mistake(f"expected host:port, :port, [v6]:port or unix:/path with a valid host, got {shown(text)}")
    return Address(host.lower(), int(port))


def _is_host(host: str) -> bool:
    if host.rpartition(".")[2].isdigit():
        try:
            ipaddress.IPv4Address(host)
        except ValueError:
            return False
        return True
    return len(host) <= 253 and _HOST.fullmatch(host) is not None


def parse_address(text: str) -> str:
    """Check a listening address; its host in lower case."""
    address = split_address(text)
    if address.port is None:
        return f"unix:{address.host}"
    host = f"[{address.host}]" if ":" in address.host else address.host
    return f"{host}:{address.port}"


def parse_network(text: str) -> str:
    """Check an address or a network in CIDR notation."""
    try:
        return str(ipaddress.ip_network(text)) if "/" in text else str(ipaddress.ip_address(text))
    except ValueError:
        raise Mistake(
            f"expected an IP address or a network such as 10.0.0.0/8 without host bits, got {shown(text)}"
        ) from None


def parse_host(text: str) -> str:
    """Check a host as it stands in a Host header, but without a port: a name, an IPv4 address or `[v6]`; lower case."""
    if _HOST.fullmatch(text.lower()) is None:
        raise Mistake(f"expected a host without a port, such as chat.example.com or [2001:db8::1], got {shown(text)}")
    return text.lower()


def parse_origin(text: str) -> str:
    """Check an origin: `scheme://host[:port]`, `scheme://*.host[:port]` or `*`; lower case, without a default port."""
    if text == "*":
        return text
    match = _ORIGIN.fullmatch(text.lower())
    if match is None or len(text) > MAX_ORIGIN_LENGTH:
        raise Mistake(f"expected an origin such as https://app.example.com, without a path, got {shown(text)}")
    scheme, host, port = match.groups()
    if port is not None and (_PORT.fullmatch(port) is None or not 0 < int(port) <= 65535):
        raise Mistake(f"expected an origin with a port from 1 to 65535, got {shown(text)}")
    if host.startswith("["):
        try:
            host = f"[{ipaddress.IPv6Address(host[1:-1])}]"
        except ValueError:
            raise Mistake(f"expected an origin with an IPv6 address in the brackets, got {shown(text)}") from None
    else:
        _check_origin_host(host, text)
    return f"{scheme}://{host}" + (f":{int(port)}" if port and int(port) != _DEFAULT_PORTS.get(scheme) else "")


def _check_origin_host(host: str, text: str) -> None:
    bare = host.removeprefix("*.")
    if "*" in bare or (bare != host and bare.rpartition(".")[2].isdigit()):
        raise Mistake(
            f"expected a wildcard only as the whole first label, as in https://*.example.com, got {shown(text)}"
        )
    if not _is_host(bare):
        raise Mistake(f"expected an origin with a host of ASCII letters, digits, - and ., got {shown(text)}")


def parse_prefix(text: str) -> str:
    """Check a router's prefix; without a slash at its end."""
    prefix = text.rstrip("/")
    if prefix:
        _check_template(prefix, text)
        if "...}" in prefix:
            raise Mistake(f"expected a prefix without {{rest...}}, got {shown(text)}")
    elif text not in ("", "/"):
        raise Mistake(f"expected a prefix such as /ws, got {shown(text)}")
    return prefix


def parse_template(text: str) -> str:
    """Check an endpoint's path: `/rooms/{name}`, `/files/{rest...}`; empty means the prefix itself."""
    if text:
        _check_template(text, text)
    return text


def parse_static_path(text: str) -> str:
    """Check the path below which files are served; without a slash at its end, but `/`."""
    path = text.rstrip("/") if text.strip("/") else text
    _check_template(path, text)
    if "{" in path:
        raise Mistake(f"expected a path without parameters, got {shown(text)}")
    return path


def _check_template(path: str, text: str) -> None:
    if not path.startswith("/"):
        raise Mistake(f"expected a path that starts with /, got {shown(text)}")
    *inner, last = path[1:].split("/")
    for segment in inner:
        if not segment:
            raise Mistake(f"expected a path without an empty segment (//), got {shown(text)}")
    for position, segment in enumerate([*inner, last]):
        parameter = _PARAMETER.fullmatch(segment)
        if parameter is None and re.search(r"[{}?#%\\\s]", segment):
            raise Mistake(
                f"expected segments of plain text, {{name}} or {{rest...}}, without ?, # and %, got {shown(text)}"
            )
        if segment in (".", ".."):
            raise Mistake(f"expected a path without . and .., got {shown(text)}")
        if parameter is not None and parameter[2] and position < len(inner):
            raise Mistake(f"expected {segment} only as the last segment, got {shown(text)}")
    check_parameters(path)


def check_parameters(path: str) -> None:
    """Check that no parameter of a whole path is named twice."""
    names = [match[1] for match in _PARAMETER.finditer(path)]
    for name in names:
        if names.count(name) > 1:
            raise Mistake(f"expected each parameter once, got {{{name}}} twice in {shown(path)}")


def shape(path: str) -> str:
    """The template without the names of its parameters: two routes of one shape match the same requests."""
    return _PARAMETER.sub(r"{\2}", path)


def parse_method_name(text: str) -> str:
    """Check the name of a callable."""
    if not text.isidentifier() or keyword.iskeyword(text):
        raise Mistake(f"expected the name of a function, got {shown(text)}")
    return text


def parse_source(text: str) -> str:
    """Check a source's form: `file://chat.py` or `python://package.module`."""
    if text.startswith("python://"):
        parts = text.removeprefix("python://").split(".")
        if not all(part.isidentifier() and not keyword.iskeyword(part) for part in parts):
            raise Mistake(f"expected python:// and the dotted name of a module, got {shown(text)}")
        return text
    if not text.startswith("file://") or text == "file://" or text.endswith("/"):
        raise Mistake(f"expected file://chat.py or python://package.module, got {shown(text)}")
    return text
