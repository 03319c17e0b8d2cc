"""`wsrelay install-unit`: looks at this machine and at the application, and writes the units for them.

Owns the checks that a unit needs beyond `wsrelay check`: that the service's user can read the Python and the application, where
the sandbox lets it. The text of the units is `unit`'s.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import stat
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from ...wire.configuration import Application
from ..errors import StartError
from ..listeners import expected_places
from . import unit

FOLDER = "/etc/systemd/system"
_HOMES = ("/home", "/root", "/run/user")
_PRIVATE = ("/tmp", "/var/tmp")


def find_version() -> int:
    """Return the version of this machine's systemd, 0 if it is not known."""
    try:
        said = subprocess.run(["systemctl", "--version"], capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return 0
    found = re.match(r"systemd (\d+)", said)
    return int(found[1]) if found else 0


def plan(
    application: Application, paths: Sequence[str], *, name: str, user: str | None, systemd: int
) -> dict[str, str]:
    """Return the units for an application, file name to text. `systemd` is the version that they are for. Raises StartError with
    everything that is wrong."""
    try:
        unit.check_name(name)
    except ValueError as problem:
        raise StartError(str(problem)) from None
    servers = unit.tcp_servers(application)
    names = unit.socket_names(name, servers)
    if too_long := [each for each in names if len(f"{each}.socket") > unit.MAX_UNIT_NAME]:
        raise StartError(
            f"--name: expected a shorter one: {too_long[0]}.socket has more than {unit.MAX_UNIT_NAME} characters"
        )
    script = Path(sysconfig.get_path("scripts"), "wsrelay")
    whole = [os.path.abspath(path) for path in paths]
    needed = [sys.executable, sys.prefix, str(script), *whole, *_files(application)]
    hosts = application.hosts.values()
    others = [host for host in hosts if (host.user, host.group, host.groups) != (None, None, None)]
    problems = list(_unreadable(needed, user))
    problems += [f"{path} is below {_below(path, _PRIVATE)}, and the unit has a private one (PrivateTmp=)"
                 for path in needed if _below(path, _PRIVATE)]  # fmt: skip
    if problems:
        hint = (
            "put the Python and the application where others can read them, /opt and /srv say, or name a --user who can"
        )
        raise StartError("\n".join([*dict.fromkeys(problems), hint]))
    files = {}
    for server, socket_name in zip(servers, names, strict=True):
        descriptor_name = unit.descriptor_name(server, application.gateway.servers)
        socket = unit.Socket(socket_name, name, descriptor_name, _streams(server.address))
        files[f"{socket_name}.socket"] = unit.render_socket(socket)
    service = unit.Service(
        name=name,
        command=(str(script), "run", *whole),
        stop=unit.stop_time(application),
        sockets=tuple(names),
        user=user,
        changes_user=bool(others),
        divides_cgroup=any(
            limit is not None
            for host in hosts
            for limit in (host.limits.memory, host.limits.processes, host.limits.cpus)
        ),
        writable=tuple(dict.fromkeys(path for host in hosts for path in host.sandbox.write or ())),
        unix_sockets=any(server.address.startswith("unix:") for server in application.gateway.servers),
        reads_homes=any(_below(path, _HOMES) for path in needed),
        notifies_reload=systemd >= unit.NOTIFY_RELOAD,
    )
    return {f"{name}.service": unit.render_service(service)} | files


def write(files: dict[str, str], folder: str = FOLDER) -> list[str]:
    """Write the units. Returns the paths. Raises StartError, and then has written nothing, if a file is another's."""
    for name in files:
        path = Path(folder, name)
        with contextlib.suppress(FileNotFoundError):
            if not path.read_text(errors="replace").startswith(unit.MARK):
                raise StartError(f"{path} is not from wsrelay install-unit: remove it, or choose another --name")
    written = []
    try:
        for name, text in files.items():
            written.append(_write_whole(Path(folder, name), text))
    except OSError as problem:
        advice = (
            "run it as root, or see the units with --print"
            if isinstance(problem, PermissionError)
            else "see them with --print"
        )
        raise StartError(f"cannot write {Path(folder, name)}: {problem.strerror}; {advice}") from problem
    return written


def _write_whole(path: Path, text: str) -> str:
    """All of it or nothing: systemd may read it at any time."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with open(descriptor, "w") as file:
            file.write(text)
            os.fchmod(file.fileno(), 0o644)
        os.rename(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    return str(path)


def advice(files: dict[str, str], name: str) -> str:
    """Return the commands that come next."""
    units = " ".join([*(file for file in files if file.endswith(".socket")), f"{name}.service"])
    return f"next: systemctl daemon-reload && systemctl enable --now {units}"


def _streams(address: str) -> tuple[str, ...]:
    """Return ListenStream= for an address: systemd resolves no names."""
    host, _, port = address.rpartition(":")
    if not host:
        return (port,)
    try:
        places = sorted(expected_places(address))
    except OSError as problem:
        raise StartError(f"cannot listen on {address}: {problem.strerror or problem}") from problem
    return tuple(f"[{place}]:{number}" if ":" in place else f"{place}:{number}" for place, number in places)


def _files(application: Application) -> Iterator[str]:
    """Every file and folder that the application names."""
    entries = [*application.functions.values(), *application.processes.values()]
    yield from (entry.source.removeprefix("file://") for entry in entries if entry.source.startswith("file://"))
    for host in application.hosts.values():
        yield from (host.sandbox.read or ())
        yield from (host.sandbox.write or ())
    for server in application.gateway.servers:
        yield from (static.directory for static in server.statics)
        if server.tls is not None:
            yield from (server.tls.certificate, server.tls.key)


def _below(path: str, folders: Sequence[str]) -> str:
    """Return the one of the folders that a path is below, where it leads."""
    for each in (path, os.path.realpath(path)):
        for folder in folders:
            if each.startswith(f"{folder}/"):
                return folder
    return ""


def _unreadable(paths: Sequence[str], user: str | None) -> Iterator[str]:
    """Yield what the service's user cannot read, each with the reason."""
    who, ids, groups = "the service's user", -1, frozenset[int]()
    if user is not None:
        try:
            entry = pwd.getpwnam(user)
        except KeyError:
            raise StartError(f"--user: there is no user {user!r}") from None
        who, ids, groups = f"user {user}", entry.pw_uid, frozenset(os.getgrouplist(user, entry.pw_gid))
    if ids == 0:
        return
    for path in dict.fromkeys([*paths, *map(os.path.realpath, paths)]):
        for place in [*reversed(Path(path).parents), Path(path)]:
            try:
                status = place.stat()
            except OSError as problem:
                yield f"{place}: {problem.strerror}"
                break
            shift = 6 if status.st_uid == ids else 3 if status.st_gid in groups else 0
            needed = (
                0o5
                if stat.S_ISDIR(status.st_mode) and str(place) == path
                else 0o1
                if stat.S_ISDIR(status.st_mode)
                else 0o4
            )
            if (status.st_mode >> shift) & needed != needed:
                yield f"{who} cannot read {path}: {place} has the mode {stat.S_IMODE(status.st_mode):04o}"
                break
