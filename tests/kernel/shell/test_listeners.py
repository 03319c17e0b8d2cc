"""Listening on machines that are not as most are."""

from __future__ import annotations

import os
import platform
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from wsrelay.kernel.shell.listeners import discard, listen

SOCKET_CALL = {"x86_64": 41, "aarch64": 198}
"""The number of socket(2)."""
LISTEN = """
import sys
from wsrelay.kernel.shell.listeners import ListenError, describe, listen
try:
    print(*[describe(each, tls=False).rpartition(":")[0] for each in listen(sys.argv[1])])
except ListenError as problem:
    print(problem)
"""
WITHOUT_IPV6 = """
import ctypes, os, struct, sys

def step(code, skip, otherwise, value):
    return struct.pack("HBBI", code, skip, otherwise, value)

number, family, missing = int(sys.argv[1]), 10, 97  # socket, AF_INET6, EAFNOSUPPORT
steps = [step(0x20, 0, 0, 0), step(0x15, 0, 3, number), step(0x20, 0, 0, 16), step(0x15, 0, 1, family),
         step(0x06, 0, 0, 0x00050000 | missing), step(0x06, 0, 0, 0x7FFF0000)]
text = ctypes.create_string_buffer(b"".join(steps))
program = ctypes.create_string_buffer(struct.pack("HP", len(steps), ctypes.addressof(text)))
libc = ctypes.CDLL(None)
if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, program, 0, 0):  # PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP
    sys.exit("no seccomp")
os.execv(sys.executable, [sys.executable, "-c", *sys.argv[2:]])
"""
"""What a kernel with `ipv6.disable=1` says to socket(2), said by a filter."""


def _said(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.skipif(platform.machine() not in SOCKET_CALL, reason="the filter is for other processors")
def test_a_kernel_without_ipv6() -> None:
    filtered = (sys.executable, "-c", WITHOUT_IPV6, str(SOCKET_CALL[platform.machine()]), LISTEN)
    assert _said(*filtered, ":0") == "http://0.0.0.0"
    assert _said(*filtered, "[::]:0") == "cannot listen on [::]:0: Address family not supported by protocol"


@pytest.mark.skipif(
    os.geteuid() != 0 or not all(map(shutil.which, ("unshare", "ip"))), reason="needs root, unshare and ip"
)
def test_a_name_whose_ipv6_address_is_disabled(tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text("127.0.0.1 localhost\n::1 localhost\n192.0.2.1 both\n127.0.0.1 both\n")
    prepare = (
        'mount --bind "$1" /etc/hosts && echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6 && ip link set lo up'
        ' && exec "$2" -c "$3" "$4"'
    )
    apart = ("unshare", "-nm", "sh", "-c", prepare, "sh", str(hosts), sys.executable, LISTEN)
    assert _said(*apart, "localhost:0") == "http://127.0.0.1"
    assert _said(*apart, "[::1]:0") == "cannot listen on [::1]:0: Cannot assign requested address"
    assert _said(*apart, "both:0") == "cannot listen on both:0: Cannot assign requested address"


def test_a_socket_file_that_is_somebody_elses_now_is_left(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    [first] = listen(f"unix:{path}")
    path.unlink()
    [second] = listen(f"unix:{path}")
    discard(first)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    path.unlink()
    path.write_text("a file")
    discard(second)
    assert path.read_text() == "a file"
    path.unlink()
    [third] = listen(f"unix:{path}")
    discard(third)
    assert not path.exists()
