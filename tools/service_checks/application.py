"""The application that is served, and where."""

from __future__ import annotations

from pathlib import Path

APPLICATION = Path("/srv/relay")
WSRELAY = "/opt/wsrelay/bin/wsrelay"
UNIT = "wsrelay.service"
PORT, STORED_PORT = 8080, 8081

CONFINED = Path("/srv/confined")
CONFINED_UNIT, CONFINED_PORT = "confined.service", 8082
CONFINED_HOST = "user: nobody, private_tmp: true, limits: {memory: 128MiB, disk: 32MiB}"
"""Fields of the host of an application whose workers are another user's."""

INDEX = """\
version: "1.0"
namespace: app
entries:
  - {name: gateway, kind: http.service, addr: "127.0.0.1:PORT"}
  - {name: processes, kind: process.host, HOST}
  - {name: router, kind: http.router, meta: {server: gateway}, post_middleware: [websocket_relay]}
  - {name: connect, kind: function.python, source: "file://app.py", method: connect}
  - {name: connect.endpoint, kind: http.endpoint, meta: {router: router}, method: GET, path: /ws, func: connect}
  - {name: shared, kind: function.python, source: "file://app.py", method: shared}
  - {name: shared.endpoint, kind: http.endpoint, meta: {router: router}, method: GET, path: /shared, func: shared}
  - {name: look, kind: function.python, source: "file://app.py", method: look}
  - {name: look.endpoint, kind: http.endpoint, meta: {router: router}, method: GET, path: /look, func: look}
  - {name: act, kind: process.python, source: "file://app.py", method: act}
  - {name: steady, kind: process.python, source: "file://app.py", method: steady}
  - {name: steady.service, kind: process.service, process: steady, host: processes, register: steady}
"""

SOURCE = '''\
import json, logging, os, socket, tempfile
from wsrelay.workers import http, process

def connect():
    http.response().relay_to(process.spawn("app:act", "app:processes"))

def shared():
    http.response().relay_to("steady")

def look():
    """What a worker has of the service manager: nothing."""
    seen = {"environment": [name for name in os.environ if name in
                            ("NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "WATCHDOG_USEC", "WATCHDOG_PID")],
            "descriptors": sorted(os.readlink(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd")
                                  if os.path.islink(f"/proc/self/fd/{number}")),
            "user": os.getuid(), "parent": os.getppid()}
    http.response().write(json.dumps(seen))

def act():
    for message in process.inbox():
        if message.topic != "ws.message":
            continue
        client, text = message.payload["client_pid"], message.payload["data"]
        if text == "eat":
            hoard = [b"x" * (8 << 20) for _ in range(100)]
        elif text == "where":
            text = tempfile.gettempdir()
        elif text == "fill":
            folder = tempfile.mkdtemp()
            with open(f"{folder}/much", "wb") as file:
                file.write(bytes(48 << 20))
            os.chmod(folder, 0o500)
            continue
        elif text == "crash":
            raise ValueError("two\\nlines")
        elif text == "log":
            logging.getLogger("application").warning("first line\\nsecond line")
            logging.getLogger("application").warning("long " + "x" * 400_000)
        elif text == "lie":
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
                end.sendto(b"STOPPING=1\\nSTATUS=a worker says so", "/run/systemd/notify")
        process.send(client, "ws.send", {"type": "text", "data": text})

def steady():
    while not isinstance(process.receive(), process.Cancel):
        pass
'''


def configure(folder: Path, port: int, host: str = "limits: {memory: 128MiB}") -> None:
    """Write the application; `host` are the fields of its process.host."""
    folder.mkdir(parents=True)
    folder.joinpath("_index.yaml").write_text(INDEX.replace("PORT", str(port)).replace("HOST", host))
    folder.joinpath("app.py").write_text(SOURCE)
