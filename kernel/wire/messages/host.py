"""The control channel of a host's fork server, both ways."""

from __future__ import annotations

from typing import Final, NamedTuple


class ConfigureHost(NamedTuple):
    """The first frame to a fork server. `configuration` is packed (`configuration.HostConfiguration`)."""

    configuration: bytes


class Fork(NamedTuple):
    """Carries one descriptor: the control channel of the worker to fork."""

    worker: int


class HostCode(NamedTuple):
    """What the entries of this host run: a digest of every module that it has imported, or of their sources where it has not.
    Comes before HostReady."""

    digest: str


class HostReady(NamedTuple):
    """The fork server forks from now on. `refused` are modules that were not preloaded, with the reason."""

    refused: tuple[tuple[str, str], ...]


class Forked(NamedTuple):
    """The worker exists: a child of the supervisor, in the host's process group until it is started."""

    worker: int
    os_pid: int


class ForkFailed(NamedTuple):
    """The operating system refused the fork."""

    worker: int
    message: str


class HostFailed(NamedTuple):
    """The fork server cannot be what its configuration asks for: what is wrong. It ends after this."""

    message: str


SUPERVISOR_TO_HOST: Final[dict[int, type]] = {120: ConfigureHost, 121: Fork}
HOST_TO_SUPERVISOR: Final[dict[int, type]] = {
    130: HostReady, 131: Forked, 132: ForkFailed, 133: HostFailed, 136: HostCode,
}  # fmt: skip
