"""A service that may restart only so often, and is given up by a program: visibly, and until it is told to start (S37)."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from pathlib import Path
from typing import Final

from wsrelay.tools.faults.kinds import Signal

from .picture import FAILED, RUNNING
from .session import Fault, Outcome, Session
from .waiting import Stuck, until

SERVICE: Final = "soak:frail_service"
_KILL: Final = Signal("SIGKILL")


class GivingUp:
    """What one program does to the service."""

    def __init__(self, session: Session, outcome: Outcome) -> None:
        self._session = session
        self._outcome = outcome

    async def give_up(self) -> None:
        """Kill the service's process, and each that follows, until it is given up; then start it again. Raises Stuck."""
        begun, size = time.monotonic(), self._session.runtime.log_size()
        before = self._state()
        killed: set[str] = set()

        def is_given_up() -> bool:
            if (state := self._state()) == RUNNING:
                self._kill(killed)
            return state == FAILED

        await until(is_given_up, lambda: f"{SERVICE} to be given up: it is {self._state()}, killed are {killed}")
        self._outcome.faults.append(Fault("GiveUp", time.monotonic() - begun))

        def is_told() -> bool:
            return any(
                SERVICE in line and "given up" in line for line in self._session.runtime.log_since(size).splitlines()
            )

        if before != FAILED:  # the journal is ahead of the log
            await until(is_told, lambda: f"the log to say that {SERVICE} is given up")
        await self.mend()

    async def mend(self) -> None:
        """If it has been given up, by this or by another fault, tell it to start. Raises Stuck."""
        while self._state() == FAILED:
            await self._start()
            await until(lambda: self._state() in (RUNNING, FAILED), lambda: f"{SERVICE} to run: it is {self._state()}")

    def _state(self) -> str:
        self._session.look()
        return self._session.picture.services[SERVICE]

    def _kill(self, killed: set[str]) -> None:
        """Kill the process that it has now, if that has not been done."""
        pid = self._session.picture.service_pids[SERVICE]
        os_pid = self._session.picture.os_pid_of.get(pid)
        if pid not in killed and os_pid is not None:
            killed.add(pid)
            self._session.book.fault(repr(_KILL), os_pid)
            self._session.signal(os_pid, signal.SIGKILL)

    async def _start(self) -> None:
        """As an operator does."""
        runtime = self._session.runtime
        environment = {**os.environ, "XDG_RUNTIME_DIR": str(runtime.temporary)}
        environment.pop("RUNTIME_DIRECTORY", None)
        command = [str(Path(sys.executable).with_name("wsrelay")), "start", SERVICE, str(runtime.folder)]
        process = await asyncio.create_subprocess_exec(
            *command, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        said, _ = await process.communicate()
        if process.returncode:
            raise Stuck(f"`wsrelay start {SERVICE}` ended with {process.returncode}: {said.decode(errors='replace')}")
