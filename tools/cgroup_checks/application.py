"""The application that is served: a host for each limit, and one without."""

from __future__ import annotations

from pathlib import Path

APPLICATION = Path("/srv/limited")
UNIT, PORT = "wsrelay.service", 8080
MEMORY, PROCESSES, CPUS = 96, 12, 0.25
"""MiB, OS processes and threads, CPUs."""

FREE = {"free": ""}
HOSTS = {
    **FREE,
    "memory": f"limits: {{memory: {MEMORY}MiB}}",
    "processes": f"limits: {{processes: {PROCESSES}}}",
    "cpus": f"limits: {{cpus: {CPUS}}}",
    "seconds": "limits: {cpu: 2s, memory: 96MiB}",
}
"""The hosts, and the fields of each. A WebSocket at /NAME has a worker of its own there."""

_HEAD = """\
version: "1.0"
namespace: app
entries:
  - {name: gateway, kind: http.service, addr: "127.0.0.1:PORT"}
  - {name: router, kind: http.router, meta: {server: gateway}, post_middleware: [websocket_relay]}
  - {name: act, kind: process.python, source: "file://app.py", method: act}
"""
_HOST = """\
  - {name: NAME, kind: process.host, FIELDS}
  - {name: open_NAME, kind: function.python, source: "file://app.py", method: open_NAME, host: free}
  - {name: open_NAME.endpoint, kind: http.endpoint, meta: {router: router}, method: GET, path: /NAME, func: open_NAME}
"""
_OPEN = """

def open_NAME():
    http.response().relay_to(process.spawn("app:act", "app:NAME"))
"""
_SOURCE = '''\
import ctypes, json, os, signal, tempfile, threading, time
from wsrelay.workers import http, process

def eat():
    hoard = [b"x" * (1 << 20) for _ in range(1024)]

def eat_in_children():
    """Each of them alone is within the limit."""
    for _ in range(16):
        if not os.fork():
            hoard = [b"x" * (1 << 20) for _ in range(16)]
            signal.pause()
    signal.pause()

def fill(file):
    for _ in range(1024):
        os.write(file, bytes(1 << 20))

def eat_memfd():
    fill(os.memfd_create("hoard"))

def eat_shm():
    with tempfile.TemporaryFile(dir="/dev/shm") as file:
        fill(file.fileno())

def fork():
    """Without end, and none of the children ends."""
    while True:
        try:
            if not os.fork():
                signal.pause()
        except OSError:
            pass

def fork_once_too_often():
    """The refused one is not caught."""
    while True:
        if not os.fork():
            signal.pause()

def fork_some(wanted):
    """Returns how many were refused."""
    children = []
    for _ in range(int(wanted)):
        try:
            child = os.fork()
        except OSError:
            continue
        if not child:
            signal.pause()
        children.append(child)
    for child in children:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    return int(wanted) - len(children)

def crash():
    raise ValueError("no")

def start_threads():
    while True:
        try:
            threading.Thread(target=signal.pause, daemon=True).start()
        except RuntimeError:
            pass

def burn():
    while True:
        pass

def burn_in_thread():
    threading.Thread(target=burn, daemon=True).start()

def scatter():
    """Descendants that leave by all ways: sessions of their own, parents that are gone."""
    for _ in range(3):
        if not os.fork():
            os.setsid()
            for _ in range(2):
                if not os.fork():
                    os.setsid()
                    signal.pause()
            os._exit(0)

def write_file(path):
    with open(path, "w") as file:
        file.write("x")

def read_file(path):
    with open(path) as file:
        return file.read()

def send_signal(os_pid):
    os.kill(int(os_pid), 0)

def act(client=None, moved=0):
    if client is not None:
        process.send(client, "ws.send", {"type": "text", "data": json.dumps(os.getpid())})
    for message in process.inbox():
        if message.topic == "ws.leave":
            return
        if message.topic != "ws.message":
            continue
        client, (what, *arguments) = message.payload["client_pid"], message.payload["data"].split()
        answer = None
        if what == "who":
            answer = [os.getpid(), str(process.pid())]
        elif what == "upgrade":
            process.upgrade("app:act", client, moved + 1)
        elif what == "end":
            return
        else:
            try:
                answer = globals()[what](*arguments)
            except PermissionError as error:
                answer = "refused"
        process.send(client, "ws.send", {"type": "text", "data": json.dumps(answer)})
'''


def configure(folder: Path, port: int = PORT, hosts: dict[str, str] = HOSTS) -> None:
    """Write the application with these hosts."""
    folder.mkdir(parents=True, exist_ok=True)
    entries = [_HOST.replace("NAME", name).replace(", FIELDS", f", {it}" if it else "") for name, it in hosts.items()]
    folder.joinpath("_index.yaml").write_text(_HEAD.replace("PORT", str(port)) + "".join(entries))
    folder.joinpath("app.py").write_text(_SOURCE + "".join(_OPEN.replace("NAME", name) for name in hosts))
