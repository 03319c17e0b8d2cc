"""Looks whether the certificates of a configuration can be served, so that a bad one is a mistake like any other, with its place,
and is told before anything starts.

Owns no context: the gateway loads them for itself, and again at each reload.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..wire.configuration import Application, Server, Tls


def mistakes(application: Application, *, serving: bool) -> Iterator[str]:
    """Yield a line for each mistake, with its place. `serving`: whether this user is to serve them; then it must be able to read
    them, and may be somebody else otherwise."""
    for server in application.gateway.servers:
        if server.tls is not None and (found := _mistake(server.tls, serving=serving)) is not None:
            yield _at(server, *found)


def _at(server: Server, field: str, message: str) -> str:
    return f"{server.places.get(field, server.id)}: {field}: {message} ({server.id})"


def _mistake(tls: Tls, *, serving: bool) -> tuple[str, str] | None:
    """The field that is wrong, and what is."""
    import ssl  # some MiB, for who has certificates

    for field, path in (("tls.certificate", tls.certificate), ("tls.key", tls.key)):
        try:
            with open(path, "rb"):
                pass
        except OSError as problem:
            return (field, f"{path!r} cannot be read: {problem.strerror}") if serving else None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_verify_locations(tls.certificate)
    except (ssl.SSLError, OSError):
        return "tls.certificate", f"{tls.certificate!r} holds no certificate in PEM"
    encrypted = False

    def no_password() -> str:
        nonlocal encrypted
        encrypted = True  # and nobody is asked at a terminal
        return ""

    try:
        context.load_cert_chain(tls.certificate, tls.key, no_password)
    except (ssl.SSLError, OSError) as problem:
        if encrypted:
            return "tls.key", f"{tls.key!r} is encrypted, expected a key without a password"
        if getattr(problem, "reason", None) == "KEY_VALUES_MISMATCH":
            return "tls.key", f"{tls.key!r} is not the key of the certificate {tls.certificate!r}"
        why = getattr(problem, "reason", None)
        return "tls.key", f"{tls.key!r} cannot be used{f': {why}' if why else ''}, expected a private key in PEM"
    return None
