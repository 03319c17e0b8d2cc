"""The restart under load: clients that come back with backoff, while systemd restarts the service."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from typing import Any

from websockets.asyncio.client import connect as connect_asynchronously
from websockets.exceptions import InvalidHandshake

from .application import PORT, UNIT
from .asking import PATIENCE

CLIENTS = 1000


def restart_under_load() -> None:
    """Only when it is asked for: `tools/systemd-test "under load"`. Clients that come back with backoff, while it restarts."""
    result = asyncio.run(load())
    print(f"# {json.dumps(result)}")
    assert result["refused"] == 0, result
    assert set(result["codes"]) <= {"1001", "1012"}, result
    assert result["back"] == CLIENTS, result


async def load() -> dict[str, Any]:
    """Open all lines, restart the service, and wait until everybody is back."""
    codes: Counter[str] = Counter()
    counts = Counter(refused=0, back=0)
    opened, everybody = asyncio.Semaphore(0), asyncio.Event()
    gate = asyncio.Semaphore(50)

    async def client() -> None:
        async with gate:
            line = await connect_asynchronously(f"ws://127.0.0.1:{PORT}/shared", open_timeout=PATIENCE, proxy=None)
        opened.release()
        await line.wait_closed()
        codes[str(line.close_code)] += 1
        delay = 0.1
        while True:
            await asyncio.sleep(delay * random.random())
            try:
                again = await connect_asynchronously(f"ws://127.0.0.1:{PORT}/shared", open_timeout=PATIENCE, proxy=None)
                break
            except ConnectionRefusedError:
                counts["refused"] += 1
            except (OSError, InvalidHandshake, TimeoutError):  # 503 while it drains
                counts["later"] += 1
            delay = min(2 * delay, 2.0)
        counts["back"] += 1
        if counts["back"] == CLIENTS:
            everybody.set()
        await everybody.wait()
        await again.close()

    async with asyncio.TaskGroup() as group:
        for _ in range(CLIENTS):
            group.create_task(client())
        for _ in range(CLIENTS):
            await opened.acquire()
        began = time.monotonic()
        restart = await asyncio.create_subprocess_exec("systemctl", "restart", UNIT)
        await restart.wait()
        restarted = time.monotonic() - began
        await asyncio.wait_for(everybody.wait(), 60)
        all_back = time.monotonic() - began
    return {
        "clients": CLIENTS, "codes": dict(codes), **counts,
        "restart_seconds": round(restarted, 2), "all_back_seconds": round(all_back, 2),
    }  # fmt: skip
