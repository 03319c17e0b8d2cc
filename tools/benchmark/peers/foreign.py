"""Peers that are not written in Python: Node's ws, nginx, websocketd, Pushpin."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from .process import PORT_ALONE, Server, free_port, running

ROOT = Path(__file__).resolve().parents[3]
TOOLS = ROOT / ".tools"
"""What --install-peers installs. Git ignores it."""
NODE_MODULES = TOOLS / "node" / "node_modules"
HERE = Path(__file__).parent
PUSHPIN_CONFIGURATION = Path("/etc/pushpin/pushpin.conf")

_NGINX = """
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 16384; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port} backlog=2048;
        location / {{
            proxy_pass http://127.0.0.1:{backend};
            proxy_http_version 1.1;
            proxy_set_header Host $host;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection upgrade;
            proxy_read_timeout 1h;
        }}
    }}
}}
"""


_ZURL = """
[General]
in_spec=ipc://{folder}/zurl-in
in_stream_spec=ipc://{folder}/zurl-in-stream
out_spec=ipc://{folder}/zurl-out
in_req_spec=ipc://{folder}/zurl-req
defpolicy=allow
max_open_requests=20000
buffer_size=200000
timeout=600
in_hwm=100000
out_hwm=100000
"""


_ZURL_STARTED = re.compile(r"(\d{4})-\S+ \S+ started")


def _needs(*commands: str) -> str | None:
    lacking = [command for command in commands if not shutil.which(command, path=_path())]
    return f"{' and '.join(lacking)} not installed" if lacking else None


def _path() -> str:
    return os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"


def node_missing() -> str | None:
    """Why Node's ws cannot run, or None."""
    return _needs("node") or (None if (NODE_MODULES / "ws").exists() else "the npm package ws is not installed")


def nginx_missing() -> str | None:
    """Why nginx cannot run, or None."""
    return _needs("nginx")


def websocketd_missing() -> str | None:
    """Why websocketd cannot run, or None."""
    return _needs("websocketd")


def pushpin_missing() -> str | None:
    """Why Pushpin cannot run, or None."""
    if PUSHPIN_CONFIGURATION.exists():
        return _needs("pushpin", "zurl")
    return _needs("pushpin", "zurl") or f"{PUSHPIN_CONFIGURATION} is missing"


@contextlib.contextmanager
def node(name: str) -> Iterator[Server]:
    """Node's ws with one forked worker."""
    command = ["/usr/bin/env", f"NODE_PATH={NODE_MODULES}", "node", str(HERE / "node" / "server.js")]
    with running(command, PORT_ALONE) as (process, port):
        yield Server(name, [process], port)


@contextlib.contextmanager
def nginx(name: str, backend: contextlib.AbstractContextManager[Server]) -> Iterator[Server]:
    """nginx with one worker in front of `backend`."""
    with backend as behind, tempfile.TemporaryDirectory(prefix="wsrelay-bench-") as folder:
        port = free_port()
        configuration = Path(folder) / "nginx.conf"
        configuration.write_text(_NGINX.format(folder=folder, port=port, backend=behind.port))
        command = [shutil.which("nginx", path=_path()) or "nginx", "-p", folder, "-c", str(configuration)]
        with running(command, None, port) as (process, _):
            yield Server(name, [process, *behind.roots], port)


@contextlib.contextmanager
def websocketd(name: str) -> Iterator[Server]:
    """websocketd with a Python process for each connection."""
    port = free_port()
    options = [f"--port={port}", "--address=127.0.0.1", "--loglevel=fatal"]
    command = ["websocketd", *options, sys.executable, str(HERE / "websocketd_app.py")]
    with running(command, None, port) as (process, _):
        yield Server(name, [process], port)


@contextlib.contextmanager
def pushpin(name: str) -> Iterator[Server]:
    """Pushpin, and a backend that speaks WebSocket-over-HTTP under uvicorn."""
    with tempfile.TemporaryDirectory(prefix="wsrelay-bench-") as folder:
        port, backend = free_port(), free_port()
        configuration = Path(folder) / "pushpin.conf"
        configuration.write_text(_pushpin_configuration(folder, port))
        (Path(folder) / "routes").write_text(f"* 127.0.0.1:{backend},over_http\n")
        requester = Path(folder) / "zurl.conf"
        requester.write_text(_ZURL.format(folder=folder))
        application = [sys.executable, "-m", "benchmark.peers.pushpin_app", str(backend)]
        with (
            running(application, None, backend) as (behind, _),
            running(["zurl", f"--config={requester}"], _ZURL_STARTED) as (zurl, _),
            running(["pushpin", f"--config={configuration}"], None, port) as (process, _),
        ):
            yield Server(name, [process, zurl, behind], port)


def _pushpin_configuration(folder: str, port: int) -> str:
    """The installed configurations, with ports and folders of its own and without limits on the rate."""
    changed = {
        "rundir": folder,
        "logdir": folder,
        "http_port": f"127.0.0.1:{port}",
        "push_in_spec": f"ipc://{folder}/push",
        "push_in_sub_specs": f"ipc://{folder}/sub",
        "push_in_http_port": str(free_port()),
        "command_spec": f"ipc://{folder}/command",
        "client_buffer_size": "65536",
        "message_rate": "1000000",
        "message_hwm": "1000000",
        "log_level": "1",
    }
    zurl = {"zurl_out_specs": "in", "zurl_out_stream_specs": "in-stream", "zurl_in_specs": "out"}
    lines = []
    for line in PUSHPIN_CONFIGURATION.read_text().splitlines():
        key = line.partition("=")[0].strip()
        lines.append(f"{key}={changed[key]}" if key in changed else line)
        if line == "[proxy]":
            lines += [f"{key}=ipc://{folder}/zurl-{end}" for key, end in zurl.items()]
    return "\n".join(lines) + "\n"
