"""Accounts on disk. A client sends {"id": "d1", "amount": 5} and is answered with {"id": "d1", "balance": 5}.

The promise: a deposit that is sent again, because no answer came, counts once. `careless` breaks it when it is ended between
its two writes; `careful` makes one write. test_ledger.py finds that out.
"""

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from wsrelay.tools.faults import point
from wsrelay.workers import http, process

FOLDER = Path(os.environ.get("LEDGER_FOLDER") or Path(tempfile.gettempdir(), "wsrelay-ledger"))


def connect() -> None:
    """An account is opened by a process of its own."""
    request = http.request()
    keeper, account = request.param("keeper"), request.param("account")
    if keeper not in ("careful", "careless") or account is None or not account.isalnum():
        http.response().set_status(404)
        return
    FOLDER.mkdir(exist_ok=True)
    pid = process.spawn(f"app:{keeper}", "app:processes", account)
    http.response().relay_to(pid)


def careless(account: str) -> None:
    """Keeps the balance in one file, and the deposits that it has seen in another."""
    balance, seen = FOLDER / f"{account}.balance", FOLDER / f"{account}.seen"

    def deposit(id: str, amount: int) -> int:
        total = int(balance.read_text()) if balance.exists() else 0
        if id not in (seen.read_text().split() if seen.exists() else []):
            total += amount
            balance.write_text(str(total))
            point("balance.written")
            with seen.open("a") as file:
                file.write(f"{id}\n")
            point("deposit.remembered")
        return total

    serve(deposit)


def careful(account: str) -> None:
    """Keeps the deposits, each in one write; the balance follows from them."""
    path = FOLDER / f"{account}.deposits"

    def deposit(id: str, amount: int) -> int:
        lines = path.read_text().splitlines() if path.exists() else []
        deposits = {name: int(value) for name, value in map(str.split, lines)}
        if id not in deposits:
            deposits[id] = amount
            with path.open("a") as file:
                file.write(f"{id} {amount}\n")
            point("deposit.written")
        return sum(deposits.values())

    serve(deposit)


def serve(deposit: Callable[[str, int], int]) -> None:
    """Take the client's deposits until it leaves."""
    for message in process.inbox():
        if message.topic == "ws.leave":
            return
        if message.topic == "ws.message":
            asked = json.loads(message.payload["data"])
            point("deposit.received")
            answer = {"id": asked["id"], "balance": deposit(asked["id"], asked["amount"])}
            point("deposit.made")
            process.send(message.payload["client_pid"], "ws.send", {"data": json.dumps(answer)})
