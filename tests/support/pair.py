"""A client that is connected to a worker through a real gateway process, both of them the test's."""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect
from wsrelay.kernel.wire import messages as m

PID = "{node@app:gateway|00000000000000aa.g1.%d}"


def relay(target: str, **fields: Any) -> tuple[tuple[str, str], ...]:
    """Return the header that names the target of a connection."""
    return (("X-WS-Relay", json.dumps({"target_pid": target, **fields})),)


@contextlib.contextmanager
def client_with(
    supervisor: Any, play: Callable[[], Any], path: str = "/ws/lobby", **options: Any
) -> Iterator[tuple[ClientConnection, Any]]:
    """A client whose handshake goes on in another thread while the test plays the supervisor."""
    for name, value in {"compression": None, "max_size": None, "ping_interval": None, "close_timeout": 5}.items():
        options.setdefault(name, value)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        url = f"ws://127.0.0.1:{supervisor.ports['app:gateway']}{path}"
        opening = pool.submit(lambda: connect(url, **options))
        played = play()
        connection = opening.result()
    with connection:
        yield connection, played


class Pair:
    """An open connection and its target."""

    def __init__(self, supervisor: Any, stack: contextlib.ExitStack, **fields: Any) -> None:
        self.supervisor = supervisor
        self.function = supervisor.function_worker()
        self.target = supervisor.actor()
        options = fields.pop("options", {})
        headers = fields.pop("headers", ())

        def play() -> tuple[m.Request, m.Admit]:
            request = supervisor.grant(self.function)
            supervisor.answer(self.function, headers=(*relay(self.target.pid, **fields), *headers))
            return request, supervisor.admit(self.target)

        self.client, (self.request, self.admit) = stack.enter_context(client_with(supervisor, play, **options))
        self.join = self.target.expect(m.Join)
        self.serial = self.join.connection
        self.pid = self.join.pid

    def closed(self) -> tuple[int, str]:
        """Read up to the close; return the code and the reason that the client got."""
        with pytest.raises(ConnectionClosed) as caught:
            self.read_all()
        assert caught.value.rcvd is not None, "no Close frame came"
        return caught.value.rcvd.code, caught.value.rcvd.reason

    def read_all(self) -> None:
        """Read until the connection is closed, which raises."""
        while True:
            self.client.recv(timeout=10)
