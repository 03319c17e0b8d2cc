"""An application that gives each client a process of its own, which echoes: for tests that look at something else."""

from __future__ import annotations

SOURCE = """\
from wsrelay.workers import http, process

def connect():
    http.response().relay_to(process.spawn("app:echo", "app:processes"))

def echo():
    for message in process.inbox():
        if message.topic == "ws.message":
            client = message.payload["client_pid"]
            process.send(client, "ws.send", {"type": "text", "data": message.payload["data"]})
        elif message.topic == "ws.leave":
            return
"""
"""The functions `connect` and `echo`, of a module `app`."""
