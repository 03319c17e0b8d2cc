"""A connection that is watched by a test: it keeps a journal of its brackets and its close, and stops at failpoints.

`Connection` is what the gateway makes: the plain one, unless the environment asks for a journal or names a controller of
failpoints. Takes part in no decision.
"""

from __future__ import annotations

from typing import Final

from ...kernel.wire import failpoints, journal
from ...kernel.wire import journal_records as j
from ...kernel.wire.failpoints import failpoint
from ...kernel.wire.messages import Join, Leave
from ..core import session_events as e
from .connection import RelayConnection


class ObservedConnection(RelayConnection):
    """One client, observed at the seam between what the session decides and what is performed."""

    _target = ""
    _epoch = 0
    _counted = 0
    _joined = False
    _event: e.Event | None = None

    def handle(self, event: e.Event) -> None:
        """Remember what led to the effects."""
        outer, self._event = self._event, event
        try:
            if isinstance(event, e.TargetEnded) and event.pid == self._target:
                self._leave("")
            super().handle(event)
        finally:
            self._event = outer

    def _perform(self, effect: e.Effect) -> None:
        if isinstance(effect, e.RequestRetarget):
            failpoint("transfer.requested")
        elif isinstance(effect, e.SendToWorker) and isinstance(effect.record, Leave):
            self._leave(effect.record.reason)
        elif isinstance(effect, e.SendClose):
            journal.write(self._close_sent(effect))
        elif isinstance(effect, e.ReportEnd):
            self._leave("")
            journal.write(j.ConnectionOver(self.session.pid, effect.reason.kind))
        if isinstance(effect, e.SendToWorker) and isinstance(effect.record, Join):
            self._join()
            if self._epoch > 1:
                failpoint("transfer.cut")
        super()._perform(effect)
        if isinstance(effect, e.SendToWorker) and isinstance(effect.record, Join) and self._epoch > 1:
            failpoint("transfer.joined")
        elif isinstance(effect, e.SendClose) and failpoints.is_asked("close.sent"):
            self._flush()
            failpoint("close.sent")

    def _hand_over(self) -> None:
        """The join after a hold, and what was kept meanwhile (S56), which the session counted when it came."""
        if self.session.backlog is not None and self.session.backlog.join is not None:
            self._join()
        else:
            self._counted -= 1
        super()._hand_over()

    def _join(self) -> None:
        self._leave("")
        self._target, self._joined, self._counted = self.session.target.pid, True, self.session.message_count
        self._epoch += 1
        journal.write(j.Joined(self.session.pid, self._target, self._epoch))

    def _leave(self, reason: str) -> None:
        if self._joined:
            self._joined = False
            messages = self.session.message_count - self._counted
            journal.write(j.Left(self.session.pid, self._target, self._epoch, messages, reason))

    def _close_sent(self, effect: e.SendClose) -> j.CloseSent:
        event = self._event
        kind, restarting = "", False
        if isinstance(event, e.TargetEnded):
            kind, restarting = event.reason.kind, event.restarting
        elif isinstance(event, e.EndRequested):
            kind = event.reason.kind
        return j.CloseSent(self.session.pid, effect.code or 0, type(event).__name__, kind, restarting)


Connection: Final[type[RelayConnection]] = ObservedConnection if journal.ON or failpoints.ON else RelayConnection
"""What is made for a client."""
