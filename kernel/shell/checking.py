"""Checks a configuration in a child process, so that no file that somebody has written is parsed in the supervisor.

Owns the child: started, waited for, killed if it takes too long. The other half of this module runs in it:

    python -m wsrelay.kernel.shell.checking CHANNEL_FD SUPERVISORS_OS_PID
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence

import msgpack

from ..wire.configuration import Application, pack, unpack
from .children import Child, start_python
from .configuration_files import ConfigurationError, load

PATIENCE = 60.0
"""Seconds that a check may take."""
_MOST = 64 << 20
"""Bytes of an answer."""
_PR_SET_PDEATHSIG = 1


class Check:
    """One check, in one child."""

    def __init__(self, loop: asyncio.AbstractEventLoop, paths: Sequence[str], on_reaped: Callable[[], None]) -> None:
        """Starts it. Raises OSError. `on_reaped` is called when nothing is left of the child."""
        self._on_reaped = on_reaped
        self._loop = loop
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                self.child: Child | None = Child(start_python("wsrelay.kernel.shell.checking", theirs.fileno()))
            ours.setblocking(False)
        except BaseException:
            ours.close()
            raise
        self._end = ours
        self._question: bytes = msgpack.packb(list(paths))

    async def result(self) -> Application:
        """Wait for the answer. Raises ConfigurationError, with all mistakes. Nothing is left of the child then, whatever happens."""
        try:
            async with asyncio.timeout(PATIENCE):
                await self._loop.sock_sendall(self._end, self._question)
                self._end.shutdown(socket.SHUT_WR)
                answer = bytearray()
                while piece := await self._loop.sock_recv(self._end, 1 << 16):
                    answer += piece
                    if len(answer) > _MOST:
                        raise ConfigurationError(["the configuration is too large"])
            return _read(bytes(answer))
        except TimeoutError:
            raise ConfigurationError([f"the check of the configuration took longer than {PATIENCE:g} s"]) from None
        except OSError as problem:
            raise ConfigurationError([f"the configuration cannot be checked: {problem}"]) from problem
        finally:
            self._end.close()
            await self._bury()

    async def _bury(self) -> None:
        """The child has nothing to do any more. It is reaped even if who waits is cancelled."""
        if (child := self.child) is None:
            return
        child.kill()
        dead = self._loop.create_future()

        def reap() -> None:
            self._loop.remove_reader(child.pidfd)
            child.reap()
            self.child = None
            if not dead.done():
                dead.set_result(None)
            self._on_reaped()

        self._loop.add_reader(child.pidfd, reap)
        await dead


def _read(answer: bytes) -> Application:
    try:
        good, value = msgpack.unpackb(answer)
        if good:
            return unpack(Application, value)
        problems = [str(problem) for problem in value]
    except (ValueError, TypeError, AttributeError, KeyError) as problem:
        raise ConfigurationError(
            [f"the check of the configuration ended without an answer ({type(problem).__name__}); see the log"]
        ) from problem
    raise ConfigurationError(problems)


def main(arguments: Sequence[str]) -> None:
    """The child: read the paths, check, answer."""
    end, parent = socket.socket(fileno=int(arguments[0])), int(arguments[1])
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        return
    with end, end.makefile("rb") as questions:
        paths = msgpack.unpackb(questions.read())
        try:
            answer: tuple[bool, object] = (True, pack(load(paths, serving=True)))
        except ConfigurationError as error:
            answer = (False, list(error.problems))
        end.sendall(msgpack.packb(answer))


if __name__ == "__main__":
    main(sys.argv[1:])
