"""PIDs: the addresses of processes (S1).

A PID reads `{node@host|epoch.owner.serial}`. `host` is the id of the configuration entry that the process lives in (a
`process.host`, or the `http.service` of a connection) and is there for people. The rest is the address:

- `epoch`: 16 hexadecimal digits, random, drawn anew at every start of the supervisor;
- `owner`: `s` for processes of the supervisor (actors and function invocations), `g<n>` for the connections of the
  gateway's n-th incarnation. It says which channel leads to the process;
- `serial`: counts up from 1 within the owner, and is never reused.
"""

from __future__ import annotations

import re
from functools import lru_cache
from sys import intern
from typing import NamedTuple

from .errors import Invalid

_PID = re.compile(
    r"\{(?P<node>[A-Za-z0-9_.-]{1,64})@(?P<host>[A-Za-z0-9_.:/-]{1,200})"
    r"\|(?P<epoch>[0-9a-f]{16})\.(?P<owner>s|g[1-9][0-9]{0,8})\.(?P<serial>[1-9][0-9]{0,17})\}",
    re.ASCII,
)

MAX_PID_LENGTH = 320
"""Characters."""

SUPERVISOR_OWNER = "s"
_EPOCH_DIGITS = 16


class PidParts(NamedTuple):
    """What a PID is made of."""

    node: str
    host: str
    epoch: str
    owner: str
    serial: int

    @property
    def is_connection(self) -> bool:
        """Whether the process is a WebSocket connection, reached through the gateway."""
        return self.owner != SUPERVISOR_OWNER

    @property
    def gateway_incarnation(self) -> int:
        """The incarnation of the gateway that owns it; 0 for a process of the supervisor."""
        return int(self.owner[1:]) if self.is_connection else 0


class Pid(str):
    """A process's address: a plain string to its users. Make one with `make` or `parse`."""

    __slots__ = ()

    @classmethod
    def make(cls, node: str, host: str, epoch: str, owner: str, serial: int) -> Pid:
        """Compose a PID from trusted parts."""
        return cls(f"{{{node}@{host}|{epoch}.{owner}.{serial}}}")

    @classmethod
    def parse(cls, text: object) -> Pid:
        """Check that `text` is a PID. Raises Invalid (S1) if it is not."""
        if isinstance(text, cls):
            return text
        if not isinstance(text, str):
            raise Invalid(f"expected a PID string, got {type(text).__name__}")
        pid = cls(text)
        _parse(pid)  # what is remembered is found again by a Pid, and not by another str
        return pid

    @property
    def parts(self) -> PidParts:
        """The parts of the address. Raises Invalid if the text is no PID."""
        return _parse(self)

    @property
    def is_connection(self) -> bool:
        """What `parts` says of it, without looking at the others: every process has an end, and most PIDs are new then."""
        return self[self.index("|") + _EPOCH_DIGITS + 2] != SUPERVISOR_OWNER


def _parse_afresh(text: str) -> PidParts:
    match = _PID.fullmatch(text) if len(text) <= MAX_PID_LENGTH else None
    if match is None:
        raise Invalid(f"expected a PID such as {{node@host|epoch.owner.serial}}, got {text[:80]!r}")
    node, host, epoch, owner = map(
        intern, match.group("node", "host", "epoch", "owner")
    )  # few different ones, kept once
    return PidParts(node, host, epoch, owner, int(match["serial"]))


REMEMBERED = 16384
"""PIDs, unless `remember` says otherwise: 8 MiB, for a process that sends to that many, again and again."""
_parse = lru_cache(maxsize=REMEMBERED)(_parse_afresh)


def remember(count: int) -> None:
    """Keep what the last `count` PIDs are made of, and no more. For a part of the runtime that sees every PID of the node, each a
    few times and not again."""
    global _parse
    _parse = lru_cache(maxsize=count)(_parse_afresh)


def looks_like_pid(text: str) -> bool:
    """Whether `text` is meant as a PID rather than a name: names never start with a brace."""
    return text.startswith("{")


_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:/@+-]{0,199}", re.ASCII)


def check_name(text: object) -> str:
    """Return `text` if it can be a registered name. Raises Invalid otherwise."""
    if not isinstance(text, str) or _NAME.fullmatch(text) is None:
        raise Invalid(
            f"expected a name of letters, digits and _.:/@+- that starts with a letter, digit or _, got {text!r:.80}"
        )
    return text
