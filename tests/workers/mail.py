"""What tests send to a mailbox, and from whom."""

from __future__ import annotations

from typing import Any

import msgpack
from wsrelay.kernel.wire.pid import Pid
from wsrelay.kernel.wire.reason import WireReason

EPOCH = "0123456789abcdef"
REASON = WireReason("killed", "", None, "killed")
WORKERS = [Pid.make("n", "h", EPOCH, "s", serial) for serial in (1, 2)]


def client(gateway: int, serial: int) -> Pid:
    return Pid.make("n", "g", EPOCH, f"g{gateway}", serial)


def payload(value: Any) -> bytes:
    packed: bytes = msgpack.packb(value)
    return packed
