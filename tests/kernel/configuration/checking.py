"""The configuration check over files that are given as text, and a disk that is a mapping."""

from __future__ import annotations

import textwrap

from wsrelay.kernel.core.configuration import File, check_configuration
from wsrelay.kernel.wire.configuration import Application

EXAMPLE = """\
version: "1.0"
namespace: app
entries:
  - {name: gateway,   kind: http.service, addr: "127.0.0.1:8080"}
  - {name: processes, kind: process.host}
  - name: ws_router
    kind: http.router
    meta: {server: gateway}
    prefix: /ws
    post_middleware: [websocket_relay]
    post_options:
      wsrelay.allowed.origins: "https://app.example.com"
  - {name: connect, kind: function.python, source: "file://chat.py", method: connect}
  - name: connect.endpoint
    kind: http.endpoint
    meta: {router: ws_router}
    method: GET
    path: /chat
    func: connect
  - {name: room, kind: process.python, source: "file://chat.py", method: room}
"""
SERVICE = "- {name: web, kind: http.service, addr: ':80'}\n"
HOST = "- {name: host, kind: process.host}\n"


class Disk:
    """A file system made of a mapping; None for a directory."""

    def __init__(self, files: dict[str, bytes | None]) -> None:
        self.files = files

    def read_source(self, path: str) -> bytes | None:
        return self.files.get(path)

    def is_file(self, path: str) -> bool:
        return self.files.get(path) is not None

    def is_directory(self, path: str) -> bool:
        return path in self.files and self.files[path] is None


DISK = Disk({
    "/srv/app/chat.py": b"def connect(): ...\nasync def room(): ...\n",
    "/srv/app/open.py": b"from handlers import *\n",
    "/srv/app/broken.py": b"x = 1\ndef f(:\n",
    "/srv/app/cert.pem": b"",
    "/srv/app/key.pem": b"",
    "/srv/app/page": None,
})  # fmt: skip


def check(*texts: str | bytes) -> Application | list[str]:
    names = ["a.yaml", "b.yaml", "c.yaml"]
    files = [
        File(name, text if isinstance(text, bytes) else text.encode(), "/srv/app")
        for name, text in zip(names, texts, strict=False)
    ]
    result = check_configuration(files, DISK)
    return result if isinstance(result, Application) else [str(problem) for problem in result]


def entries(text: str) -> str:
    """A file whose first entry is on line 4."""
    return "version: '1.0'\nnamespace: app\nentries:\n" + textwrap.dedent(text)
