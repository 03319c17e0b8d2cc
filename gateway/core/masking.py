"""The masking of RFC 6455 §5.3: a client's payload, unmasked.

The C function of `websockets` does it in a hundredth of the time; it comes with the extra `speed`. Without it one exclusive-or
of two big integers does the whole payload.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final


def unmask_in_python(data: bytes | memoryview, mask: bytes) -> bytes:
    """Return `data` with each byte xor'ed with the byte of the four-byte `mask` at its position modulo 4."""
    size = len(data)
    key = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(data, "little") ^ int.from_bytes(key, "little")).to_bytes(size, "little")


def _choose() -> Callable[[bytes | memoryview, bytes], bytes]:
    try:
        from websockets.speedups import apply_mask
    except ImportError:
        return unmask_in_python
    return apply_mask


unmask: Final = _choose()
"""Either of the two."""
