"""Certificates that cannot be served are mistakes of the configuration, each with its place."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from wsrelay.kernel.shell.command import main
from wsrelay.kernel.shell.configuration_files import ConfigurationError, load

pytestmark = pytest.mark.skipif(
    shutil.which("openssl") is None, reason="the command openssl is not there to make a certificate with"
)
ENTRIES = """version: "1.0"
namespace: app
entries:
  - name: gateway
    kind: http.service
    addr: ":0"
    tls:
      certificate: {}
      key: {}
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two pairs, and the first key once more with a password."""
    folder = tmp_path_factory.mktemp("certificates")
    for name in ("one", "two"):
        openssl(
            "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
            "-subj", "/CN=localhost", "-keyout", folder / f"{name}.key", "-out", folder / f"{name}.pem",
        )  # fmt: skip
    openssl("ec", "-aes128", "-passout", "pass:secret", "-in", folder / "one.key", "-out", folder / "locked.key")
    (folder / "both").write_text((folder / "one.key").read_text() + (folder / "one.pem").read_text())
    (folder / "junk").write_text("junk")
    (folder / "broken").write_text((folder / "one.pem").read_text().replace("MII", "MIJ", 1))
    return folder


def openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True, stdin=subprocess.DEVNULL)


def told(folder: Path, certificate: Path, key: Path, *, serving: bool = True) -> str:
    """What is wrong with these, empty for nothing."""
    (folder / "_index.yaml").write_text(ENTRIES.format(certificate, key))
    try:
        load([str(folder)], serving=serving)
    except ConfigurationError as error:
        [problem] = error.problems
        assert problem.endswith("(app:gateway)")
        return problem
    return ""


@pytest.mark.parametrize(("certificate", "key"), [("one.pem", "one.key"), ("both", "both")])
def test_a_good_pair(made: Path, tmp_path: Path, certificate: str, key: str) -> None:
    assert told(tmp_path, made / certificate, made / key) == ""


@pytest.mark.parametrize(
    ("certificate", "key", "place", "words"),
    [
        ("junk", "one.key", r"8:\d+: tls\.certificate", "holds no certificate"),
        ("one.key", "one.key", r"8:\d+: tls\.certificate", "holds no certificate"),
        ("broken", "one.key", r"8:\d+: tls\.certificate", "holds no certificate"),
        ("one.pem", "junk", r"9:\d+: tls\.key", "cannot be used"),
        ("one.pem", "one.pem", r"9:\d+: tls\.key", "cannot be used"),
        ("one.pem", "two.key", r"9:\d+: tls\.key", "is not the key of the certificate"),
        ("one.pem", "locked.key", r"9:\d+: tls\.key", "is encrypted"),
    ],
)
def test_a_bad_pair(made: Path, tmp_path: Path, certificate: str, key: str, place: str, words: str) -> None:
    problem = told(tmp_path, made / certificate, made / key)
    assert re.search(rf"_index\.yaml:{place}: ", problem)
    assert words in problem


def test_what_only_the_service_can_read_is_no_mistake_of_who_checks(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made, tmp_path / "made")
    certificate, key = tmp_path / "made" / "one.pem", tmp_path / "made" / "one.key"
    for path in (certificate, *certificate.parents):
        if path not in (Path("/"), Path("/tmp")):
            path.chmod(path.stat().st_mode | 0o055)
    key.chmod(0)
    if os.geteuid() == 0:
        tmp_path.chmod(0o777)
        os.seteuid(65534)
    try:
        assert told(tmp_path, certificate, key, serving=False) == ""
        assert "one.key' cannot be read: Permission denied" in told(tmp_path, certificate, key)
    finally:
        if os.getuid() == 0:
            os.seteuid(0)


def test_check_says_it_too(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "_index.yaml").write_text(ENTRIES.format(made / "one.pem", made / "two.key"))
    assert main(["check", str(tmp_path)]) == 1
    assert "is not the key of the certificate" in capsys.readouterr().err
