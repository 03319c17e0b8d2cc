"""The units in deploy/systemd, rendered from the code: `tools/render-units` writes them, a test holds them together."""

from __future__ import annotations

import sys
from pathlib import Path

from wsrelay.kernel.shell.systemd.unit import Service, Socket, render_drop_in, render_service, render_socket

FOLDER = Path(__file__).resolve().parent.parent / "deploy" / "systemd"
SCRIPT = "/opt/wsrelay/bin/wsrelay"
STOP = 25.0
"""Seconds: drain, closing handshake and one service, each with its default."""


def render() -> dict[str, str]:
    """Return the shipped units: file name to text."""
    single = Service("wsrelay", (SCRIPT, "run", "/etc/wsrelay"), STOP, sockets=("wsrelay",))
    template = Service("wsrelay-", (SCRIPT, "run", "/etc/wsrelay/%i"), STOP, template=True, unix_sockets=True)
    return {
        "wsrelay.service": render_service(single),
        "wsrelay.socket": render_socket(Socket("wsrelay", "wsrelay", "gateway", ("127.0.0.1:8080",))),
        "wsrelay@.service": render_service(template),
        "notify-reload.conf": render_drop_in(),
    }


def main() -> int:
    for name, text in render().items():
        (FOLDER / name).write_text(text)
        print(f"wrote {FOLDER / name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
