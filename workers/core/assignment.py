"""What a function worker is to do: the supervisor's word, and the gateway's Request, which come on two channels in any order.

A Request may be of an invocation that has ended, and one may never come, because its gateway has died (S41).
"""

from __future__ import annotations

from ...kernel.wire import messages as wire


class Assignment:
    """The invocation that runs in a function worker or is about to, one at a time (S57)."""

    def __init__(self) -> None:
        self.invoke: wire.Invoke | None = None
        self.request: wire.Request | None = None
        self.gateway = 0
        """The incarnation of the gateway that sent the latest Request."""
        self._invoked_by = 0
        """The incarnation of the gateway that Invoke was for."""

    def begin(self, invoke: wire.Invoke, gateway: int) -> None:
        """The supervisor has said what to run; `gateway` is the one that the data channel leads to."""
        self.invoke, self._invoked_by = invoke, gateway

    def receive(self, request: wire.Request, gateway: int) -> None:
        """A Request has come from this gateway."""
        self.request, self.gateway = request, gateway

    def end(self) -> None:
        """The invocation is over."""
        self.invoke = self.request = None

    @property
    def idle(self) -> bool:
        """Nothing has come of the next invocation."""
        return self.invoke is None and self.request is None

    def match(self) -> tuple[wire.Invoke, wire.Request] | None:
        """Both, if both are there. A Request of another invocation is dropped."""
        invoke, request = self.invoke, self.request
        if invoke is None or request is None:
            return None
        if request.pid != invoke.pid:
            self.request = None
            return None
        return invoke, request

    def lost(self, gateway: int, *, data_ended: bool) -> wire.Invoke | None:
        """The invocation whose Request will never come: its gateway is dead, and what that wrote has been read. `gateway` is
        the one that the data channel leads to, if that has not ended."""
        lost = self.request is None and (data_ended or gateway > self._invoked_by)
        return self.invoke if lost else None
