"""What a fork server and its workers give up before they run anything of a user's: identity, privileges, files.

The supervisor has checked that all of it can be had. What fails all the same raises OSError, and then nothing may run. The
order matters: what needs privileges comes first, then the change of user, and what that clears comes after it.
"""

from __future__ import annotations

import os
import resource
import tempfile

from ...kernel.wire.affinity import bind
from ...kernel.wire.configuration import HostConfiguration, Identity
from ...kernel.wire.privileges import drop_capabilities
from . import landlock, system


def confine_host(configuration: HostConfiguration, supervisor: int) -> None:
    """In the fork server, before it imports the application. Workers inherit all of it."""
    if configuration.cpu_affinity is not None:
        bind(configuration.cpu_affinity)
    if configuration.oom_score is not None:  # before the change of user, after which the file is root's
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write(f"{configuration.oom_score}")
    if configuration.limits.core is not None:
        resource.setrlimit(resource.RLIMIT_CORE, (configuration.limits.core,) * 2)
    if configuration.umask is not None:
        os.umask(configuration.umask)
    if configuration.identity is not None:
        become(configuration.identity)
    drop_capabilities()  # a change of user clears them only if it was from root
    system.die_with_parent(supervisor)
    if configuration.sandbox.wanted:
        system.renounce_privileges()
        folders = (configuration.temporary,) if configuration.private_tmp else ()
        # It looks in /proc for what a module has left running at its import; workers do not.
        landlock.restrict(configuration.sandbox, configuration.sources, readable=("/proc",), writable=folders)


def confine_worker(configuration: HostConfiguration, number: int) -> None:
    """In a newborn, before it runs anything."""
    if configuration.no_new_privs:
        system.renounce_privileges()
    folders: tuple[str, ...] = ()
    if configuration.private_tmp:
        folder = f"{configuration.temporary}/{number}"
        os.environ.update(TMPDIR=folder, TEMP=folder, TMP=folder)
        tempfile.tempdir = None  # what a module has asked for at its import
        folders = (folder,)
    if configuration.sandbox.wanted:  # once more: so that no worker may write to, trace or signal another
        landlock.restrict(configuration.sandbox, configuration.sources, writable=folders)


def become(identity: Identity) -> None:
    """Change user and groups, for good: the groups first, while that is allowed. Raises OSError, also if there is a way back."""
    os.setgroups(identity.groups)
    os.setresgid(identity.gid, identity.gid, identity.gid)
    os.setresuid(identity.uid, identity.uid, identity.uid)
    if os.getresuid() != (identity.uid,) * 3 or os.getresgid() != (identity.gid,) * 3:
        raise PermissionError(f"the process did not become user {identity.uid} with group {identity.gid}")
