"""Which passed socket is whose, with real sockets."""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path

import pytest
from wsrelay.kernel.shell.errors import StartError
from wsrelay.kernel.shell.systemd.activation import Listening, descriptor_names
from wsrelay.kernel.wire.configuration import Server


def port_of(listener: socket.socket) -> int:
    return int(listener.getsockname()[1])


def _listener(address: str = "127.0.0.1", port: int = 0) -> socket.socket:
    return socket.create_server((address, port))


def close(listening: Listening, *servers: Server) -> None:
    for server in servers:
        for each in listening.open(server):
            each.close()


def test_names() -> None:
    servers = [Server("app:gateway", ":1"), Server("app:admin", ":2"), Server("other:admin", ":3")]
    assert descriptor_names(servers) == {
        "app/gateway": "app:gateway",
        "app/admin": "app:admin",
        "other/admin": "other:admin",
        "gateway": "app:gateway",
    }


@pytest.mark.parametrize("name", ["gateway", "app/gateway"])
def test_a_passed_socket_is_served_and_not_stored(name: str) -> None:
    listener = _listener()
    place = listener.getsockname()
    server = Server("app:gateway", f"127.0.0.1:{place[1]}")
    listening = Listening([(name, listener.detach())], [server])
    [given] = listening.open(server)
    said: list[str] = []
    listening.store(lambda text, descriptors: said.append(text))
    with given:
        assert given.getsockname() == place
    assert said == []
    assert listening.keeps("app:gateway", stores=False)


def test_a_server_that_is_passed_nothing_binds_for_itself_and_is_stored() -> None:
    server = Server("app:gateway", "127.0.0.1:0")
    listening = Listening([], [server])
    [own] = listening.open(server)
    said: list[tuple[str, list[int]]] = []
    listening.store(lambda text, descriptors: said.append((text, list(descriptors))))
    with own:
        assert said == [("FDSTORE=1\nFDNAME=stored/app/gateway", [own.fileno()])]


def test_what_was_stored_comes_back() -> None:
    listener = _listener()
    port = port_of(listener)
    server = Server("app:gateway", f"127.0.0.1:{port}")
    listening = Listening([("stored/app/gateway", listener.detach())], [server])
    [given] = listening.open(server)
    with given:
        assert port_of(given) == port


def test_what_was_stored_and_is_configured_otherwise_now_is_let_go() -> None:
    server = Server("app:gateway", "127.0.0.2:0")
    listening = Listening(
        [("stored/app/gateway", _listener().detach()), ("stored/app/gone", _listener().detach())], [server]
    )
    [own] = listening.open(server)
    said: list[str] = []
    listening.store(lambda text, descriptors: said.append(text))
    with own:
        assert own.getsockname()[0] == "127.0.0.2"
    assert said == [
        "FDSTOREREMOVE=1\nFDNAME=stored/app/gateway",
        "FDSTOREREMOVE=1\nFDNAME=stored/app/gone",
        "FDSTORE=1\nFDNAME=stored/app/gateway",
    ]


def test_a_name_that_nobody_has() -> None:
    with pytest.raises(StartError, match=r"a socket named 'front': expected one of app/gateway, gateway"):
        Listening([("front", _listener().detach())], [Server("app:gateway", "127.0.0.1:0")])


def test_an_address_that_is_not_the_configured_one() -> None:
    listener = _listener()
    port = port_of(listener)
    with pytest.raises(
        StartError, match=rf"is at 127.0.0.1:{port}: expected 127.0.0.1:1, which is addr of app:gateway"
    ):
        Listening([("gateway", listener.detach())], [Server("app:gateway", "127.0.0.1:1")])


def test_a_socket_that_does_not_listen() -> None:
    with pytest.raises(StartError, match="does not listen: expected ListenStream= and Accept=no"):
        Listening([("gateway", socket.socket().detach())], [Server("app:gateway", ":0")])


def test_a_datagram_socket_and_what_is_no_socket(tmp_path: Path) -> None:
    end = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with pytest.raises(StartError, match="expected ListenStream="):
        Listening([("gateway", end.detach())], [Server("app:gateway", ":0")])
    with (tmp_path / "file").open("w") as file, pytest.raises(StartError, match="it is no socket"):
        Listening([("gateway", file.fileno())], [Server("app:gateway", ":0")])


@pytest.mark.parametrize("address", [":{}", "0.0.0.0:{}", "[::]:{}"])
def test_systemd_s_socket_for_both_protocols(address: str) -> None:
    with contextlib.ExitStack() as stack:
        try:
            listener = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
        except OSError:
            pytest.skip("there is no IPv6 here")
        server = Server("app:gateway", address.format(port_of(listener)))
        listening = Listening([("gateway", listener.detach())], [server])
        for each in listening.open(server):
            stack.enter_context(each)


def test_a_socket_file_that_was_removed_is_bound_again(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    server = Server("app:gateway", f"unix:{path}")
    with socket.socket(socket.AF_UNIX) as old:
        old.bind(str(path))
        old.listen()
        path.unlink()
        listening = Listening([("stored/app/gateway", old.detach())], [server])
    close(listening, server)
    assert path.exists()
