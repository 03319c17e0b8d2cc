"""docs/wire.md says what kernel/wire/messages/ says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
PAGE = ROOT / "docs" / "wire.md"


def test_the_page_is_rendered_from_the_messages(tmp_path: Path) -> None:
    rendered = tmp_path / "wire.md"
    subprocess.run([sys.executable, "-m", "wire_page", rendered], check=True, cwd=ROOT / "tools")
    assert PAGE.read_text() == rendered.read_text(), "the wire has changed: run tools/render-wire"
