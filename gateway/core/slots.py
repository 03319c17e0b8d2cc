"""How many connections a server has, in all and from one address.

Owns the counts; the shell acquires a slot for every accepted socket and releases it when that socket is gone.
"""

from __future__ import annotations

from collections import Counter


class Slots:
    """Counted places for connections."""

    def __init__(self, total: int, per_address: int) -> None:
        """`total` and `per_address` are limits; 0 for `per_address` means no limit."""
        self._total = total
        self._per_address = per_address
        self._addresses: Counter[str] = Counter()
        self.taken = 0

    def resize(self, total: int, per_address: int) -> None:
        """Have other limits from now on. Who is over them stays."""
        self._total = total
        self._per_address = per_address

    def acquire(self, address: str) -> bool:
        """Take a place. Returns whether there was one. An empty address stands for no address and is not counted."""
        if self.taken >= self._total:
            return False
        if address and self._per_address and self._addresses[address] >= self._per_address:
            return False
        self.taken += 1
        if address:
            self._addresses[address] += 1
        return True

    def release(self, address: str) -> None:
        """Give back a place that was taken for this address."""
        self.taken -= 1
        if address:
            self._addresses[address] -= 1
            if self._addresses[address] <= 0:
                del self._addresses[address]

    def check_invariants(self) -> None:
        """Raise AssertionError if the counts disagree."""
        if not 0 <= sum(self._addresses.values()) <= self.taken:
            raise AssertionError(f"{self.taken} taken, {self._addresses}")
