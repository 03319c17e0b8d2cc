"""A rolling restart: services that are brought to a new configuration or to new code one after the other, while the rest goes on.

Owns how long is waited for each, and when it counts as back. One that does not come back ends it, so that a bad release costs one
service and not all. Which are concerned is said by the plan of a reload; how one is restarted is decided by the table.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

from ..core.effects import Effect
from ..core.reconfiguration import Plan, start_order
from ..core.service_states import State
from ..core.table import ProcessTable
from ..wire.configuration import Application
from ..wire.errors import ProcessError

SETTLE: Final = 0.3
"""Seconds that a new process of a service is looked at before the next service is restarted."""
MARGIN: Final = 10.0
"""Seconds beyond the time limits of a service."""
NOT_BACK: Final = "not back"
"""What is said of a service begins with it, if it does not run after its restart."""
NOT_UP: Final = "does not stay"
"""The same of one that is new."""
_OTHERS_WAIT: Final = "the services after it in the order of their start are not restarted"
_AT_REST = frozenset({State.STOPPED, State.FINISHED, State.FAILED})


class Runtime(Protocol):
    """What a rolling restart needs of the supervisor."""

    loop: asyncio.AbstractEventLoop
    table: ProcessTable
    application: Application

    def perform(self, effects: list[Effect]) -> None: ...

    def end_turn(self) -> None: ...

    async def wait_for(self, condition: Callable[[], bool], timeout: float) -> bool: ...


class RollingRestart:
    """Of the services of this runtime."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    async def turn_over(
        self, planned: Plan, new: Application, changed_code: set[str], *, restart: bool, lines: list[str]
    ) -> bool:
        """Stop what is configured no more; then start what is new and restart what must be, each when those that it requires run
        again. Returns False if one does not come back: those after it stay as they are."""
        table = self._runtime.table
        gone = planned.services_removed
        patience = table.stop_time() + MARGIN
        if gone and not await self._runtime.wait_for(lambda: not any(id in table.services() for id in gone), patience):
            lines.append(f"did not stop in time: {', '.join(id for id in gone if id in table.services())}")
        for id in start_order(new):
            on_reload = new.services[id].lifecycle.on_reload
            concerned = restart or new.services[id].host in changed_code
            if id in planned.services_started:
                how = await self._start(id)
                lines.append(f"{id}: {how}")
                if how.startswith(NOT_UP):
                    lines.append(_OTHERS_WAIT)
                    return False
            elif id in planned.services_replaced or (concerned and on_reload == "restart"):
                how = await self.restart(id)
                if how:
                    lines.append(f"{id}: {how}")
                if how.startswith(NOT_BACK):
                    lines.append(_OTHERS_WAIT)
                    return False
            elif concerned and on_reload == "notify":
                self._runtime.perform(table.notify_service(id))
                self._runtime.end_turn()
                lines.append(f"{id}: notified")
        return True

    async def _start(self, id: str) -> str:
        table = self._runtime.table
        patience = self._runtime.application.services[id].lifecycle.start_timeout + MARGIN
        try:
            self._runtime.perform(table.start_service(id, self._runtime.loop.time()))
        except ProcessError as problem:
            return f"not started: {problem}"
        self._runtime.end_turn()
        await self._runtime.wait_for(lambda: self.state(id) not in (State.WAITING, State.STARTING), patience)
        await self._runtime.wait_for(lambda: self.state(id) is not State.RUNNING, SETTLE)
        state = self.state(id)
        return f"{NOT_UP}: {state.value}" if state in (State.BACKING_OFF, State.FAILED) else state.value

    async def restart(self, id: str) -> str:
        """Restart one that runs. Returns what came of it, or nothing if there is nothing to restart. Raises ProcessError."""
        runtime, lifecycle = self._runtime, self._runtime.application.services[id].lifecycle
        await runtime.wait_for(lambda: self.state(id) is not State.STARTING, lifecycle.start_timeout + MARGIN)
        if self.state(id) is not State.RUNNING:
            return ""
        before = runtime.table.services()[id][1]
        runtime.perform(runtime.table.replace_service(id, runtime.loop.time()))
        runtime.end_turn()

        def settled() -> bool:
            state, pid = runtime.table.services().get(id, (State.STOPPED, ""))
            return pid != before and state is not State.STARTING

        await runtime.wait_for(settled, lifecycle.stop_timeout + lifecycle.start_timeout + MARGIN)
        await runtime.wait_for(lambda: self.state(id) is not State.RUNNING, SETTLE)
        state = self.state(id)
        if state is State.RUNNING or state in _AT_REST - {State.FAILED}:
            return f"restarted, {state.value}"
        return f"{NOT_BACK}: {state.value}"

    def state(self, id: str) -> State:
        """Where a service is; STOPPED if there is none of this id."""
        return self._runtime.table.services().get(id, (State.STOPPED, ""))[0]
