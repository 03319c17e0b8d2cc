"""Where the gateway process starts: `python -m wsrelay.gateway.shell.main CONTROL_FD EXPECTED_PARENT_OS_PID [PROCESSORS]`.

Owns what makes a process the supervisor's: it dies with it, ignores the signals of a terminal (the supervisor says when to
stop), has descriptors enough, and runs on the processors that it is to run on. Knows nothing of what it serves.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from typing import Final

from ...kernel.wire import log_writer, logs
from ...kernel.wire.journal import set_role
from ...kernel.wire.pid import remember
from ...kernel.wire.privileges import drop_capabilities
from ...kernel.wire.quantities import parse_processors
from .affinity import Affinity

PIDS = 1024
"""PIDs whose parts are remembered: a connection's are looked at a few times in its life, its target's when it begins and ends."""

_PR_SET_PDEATHSIG: Final = 1
_M_TRIM_THRESHOLD: Final = -1
_M_TOP_PAD: Final = -2
_M_MMAP_THRESHOLD: Final = -3
_MALLOC: Final = {_M_TRIM_THRESHOLD: 4 << 20, _M_TOP_PAD: 256 << 10, _M_MMAP_THRESHOLD: 1 << 20}
"""Parameters of glibc's mallopt(3), in bytes."""


def main(arguments: Sequence[str]) -> None:
    """Run until the supervisor ends this process or its own end of the channel."""
    control, parent = map(int, arguments[:2])
    affinity = Affinity()
    if len(arguments) > 2:  # and not with the configuration: what it imports is the most of its start
        affinity.become(tuple(sorted(parse_processors(arguments[2]))))
    gc.disable()
    from .gateway import Gateway, leave

    gc.freeze()  # the collector never goes through what has been imported
    gc.enable()
    set_role("gateway")
    drop_capabilities()
    remember(PIDS)
    _die_with(parent)
    _keep_memory()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    logs.setup_child(os.environ)
    log_writer.start()
    end = socket.socket(fileno=control)
    end.set_inheritable(False)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_run(lambda loop: Gateway(loop, end, leave, affinity)))


async def _run(make_gateway: Callable[[asyncio.AbstractEventLoop], object]) -> None:
    gateway = make_gateway(asyncio.get_running_loop())
    await asyncio.get_running_loop().create_future()
    del gateway


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop


def _keep_memory() -> None:
    """Have malloc keep a few MiB for the buffers of the next turn. Without it glibc gives the memory of a large read back to the
    kernel and asks for it again, which costs several µs for a message of 16 KiB. Other C libraries do as they do."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for parameter, value in _MALLOC.items():
            mallopt(parameter, value)


def _die_with(parent: int) -> None:
    """Be killed when the parent ends; it may have ended already."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:
        os._exit(1)


if __name__ == "__main__":
    main(sys.argv[1:])
