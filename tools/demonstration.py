"""What tools/demo runs: `wsrelay run examples/chat`, and the URL to open once that serves."""

from __future__ import annotations

import argparse
import errno
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

EXAMPLE: Final = Path(__file__).resolve().parent.parent / "examples" / "chat"
PORT: Final = 8080


def main() -> int:
    """Run the demo; returns the exit status."""
    arguments = parse_arguments()
    problem = why_not_listen(arguments.port)
    if problem is not None:
        other = PORT + 1 if arguments.port == PORT else PORT
        print(f"error: {problem}. Choose another port: tools/demo --port {other}", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory(prefix="wsrelay-demo-") as temporary:
        folder = EXAMPLE if arguments.port == PORT else copy_with_port(Path(temporary) / "chat", arguments.port)
        return serve(folder, f"http://127.0.0.1:{arguments.port}/", arguments.seconds)


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="tools/demo", description="Run the chat example and print the URL to open.")
    parser.add_argument("--port", type=port_number, default=PORT, help=f"serve on this port (default {PORT})")
    parser.add_argument("--seconds", type=float, help="stop after this time (default: at Ctrl-C)")
    return parser.parse_args()


def port_number(text: str) -> int:
    """A `--port`, with a message that says what was expected."""
    if not text.isdecimal() or not 0 < int(text) < 1 << 16:
        raise argparse.ArgumentTypeError(f"expected a port from 1 to 65535, got {text!r}")
    return int(text)


def why_not_listen(port: int) -> str | None:
    """What will keep the runtime from listening there; None if nothing does."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as problem:
            if problem.errno == errno.EADDRINUSE:
                return f"something else listens on 127.0.0.1:{port}"
            return f"cannot listen on 127.0.0.1:{port}: {problem.strerror}"
    return None


def copy_with_port(folder: Path, port: int) -> Path:
    """Copy the example to `folder`, and change its port there."""
    shutil.copytree(EXAMPLE, folder)
    index = folder / "_index.yaml"
    index.write_text(index.read_text().replace(f"127.0.0.1:{PORT}", f"127.0.0.1:{port}"))
    return folder


def serve(folder: Path, url: str, seconds: float | None) -> int:
    """Run the runtime until it ends, pass its log on, and announce the URL when it serves."""
    command = [str(Path(sys.executable).with_name("wsrelay")), "run", str(folder)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, errors="replace") as runtime:
        assert runtime.stderr is not None  # noqa: S101 - for the type checker
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the runtime too, and that decides
        signal.signal(signal.SIGTERM, lambda *_: runtime.terminate())
        signal.signal(signal.SIGALRM, lambda *_: runtime.terminate())
        for line in runtime.stderr:
            print(line, end="", file=sys.stderr)
            if "serving app:gateway on" in line:
                until = f"It stops after {seconds:g} s." if seconds else "Ctrl-C stops it."
                print(f"\n  Open {url} in two tabs. {until}\n", flush=True)
                if seconds:
                    signal.setitimer(signal.ITIMER_REAL, seconds)
        return runtime.wait()


if __name__ == "__main__":
    sys.exit(main())
