"""Upgrade, on both sides."""

from __future__ import annotations

from ..model import Mutation

_CORE = ("tests/kernel/core/test_upgrades.py", "tests/kernel/core/test_table_machine.py")
_SYSTEM = ("tests/workers/test_upgrading.py", "tests/system/test_upgrade.py")
_UPGRADING = "workers/shell/upgrading.py"

MUTATIONS = (
    Mutation(
        "the-end-of-the-old-code-is-a-death",
        "S35",
        "kernel/core/upgrades.py",
        "worker.upgrade.handed_over and status.exit_code == 0",
        "worker.upgrade.handed_over and status.exit_code == 1",
        _CORE,
    ),
    Mutation(
        "terminate-during-an-upgrade-is-forgotten",
        "S30",
        "kernel/core/upgrades.py",
        "why = worker.chosen or self._limits.cpu_spent(worker)",
        "why = self._limits.cpu_spent(worker)",
        _CORE,
    ),
    Mutation(
        "an-upgrade-in-an-upgrade",
        "S35",
        "kernel/core/upgrades.py",
        "        if worker.upgrade is not None or worker.chosen is not None or worker.report is not None:\n",
        "        if False:\n",
        _CORE,
    ),
    Mutation(
        "half-a-frame-is-lost-in-an-upgrade",
        "S35",
        _UPGRADING,
        'unfinished = b"" if data is None else data.reader.unfinished',
        'unfinished = b""',
        _SYSTEM,
    ),
    Mutation(
        "what-is-unsent-is-lost-in-an-upgrade",
        "S7",
        _UPGRADING,
        "        data.writer.finish()\n",
        "        pass\n",
        _SYSTEM,
    ),
    Mutation(
        "refs-begin-again-after-an-upgrade",
        "S19",
        _UPGRADING,
        "    owner.requests.last = state.last_request\n",
        "",
        _SYSTEM,
    ),
    Mutation(
        "held-notices-are-lost-in-an-upgrade",
        "S35",
        "workers/core/hand_over.py",
        "held=deque(next(records) for _ in range(held)),",
        "held=deque(),",
        ("tests/workers/test_mailbox.py", "tests/workers/test_mailbox_machine.py", *_SYSTEM),
    ),
)
