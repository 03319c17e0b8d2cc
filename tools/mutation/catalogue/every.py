"""Every mutation, in the order in which they run."""

from __future__ import annotations

from ..model import Mutation
from . import checker, gateway, kernel_core, kernel_shell, upgrade, workers

MUTATIONS: tuple[Mutation, ...] = (
    *kernel_core.MUTATIONS,
    *kernel_shell.MUTATIONS,
    *gateway.MUTATIONS,
    *workers.MUTATIONS,
    *upgrade.MUTATIONS,
    *checker.MUTATIONS,
)
