"""How notices and data frames are put in order across two channels (S14)."""

from __future__ import annotations

from typing import Final, NamedTuple


class Mark(NamedTuple):
    """How far a data channel must have been read before a notice may be seen (S14)."""

    gateway: int
    """The gateway's incarnation, which names the channel."""
    frame: int
    """How many frames the gateway had written to this worker on that channel; `END_OF_CHANNEL` if that incarnation died."""


END_OF_CHANNEL: Final = (1 << 63) - 1
"""A frame that no channel reaches: a notice with this mark waits for the channel's end (S41)."""
