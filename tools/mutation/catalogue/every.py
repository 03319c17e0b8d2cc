"""Every mutation, in the order in which they run."""

from __future__ import annotations

from ..model import Mutation
from . import checker, gateway_core, gateway_shell, kernel_core, kernel_shell, upgrade, workers

MUTATIONS: tuple[Mutation, ...] = (
    *kernel_core.MUTATIONS,
    *kernel_shell.MUTATIONS,
    *gateway_core.MUTATIONS,
    *gateway_shell.MUTATIONS,
    *workers.MUTATIONS,
    *upgrade.MUTATIONS,
    *checker.MUTATIONS,
)
