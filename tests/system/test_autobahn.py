"""The Autobahn Testsuite, where it is installed: `tools/autobahn --install` does that."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
INSTALLED = ROOT / ".tools" / "autobahn" / "suite" / "bin" / "wstest"
TIMEOUT = 300


@pytest.mark.skipif(not INSTALLED.exists(), reason="the Autobahn Testsuite is not installed: tools/autobahn --install")
def test_the_protocol_is_kept_through_a_worker_process() -> None:
    """Groups 1-7 and 10: nothing has FAILED, and no more is NON-STRICT than with plain wsproto."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "tools")}
    command = [sys.executable, "-m", "conformance", "--quick"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
