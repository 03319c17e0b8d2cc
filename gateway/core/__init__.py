"""Decides: the relay session of a connection, the relay header, origins, routes. No socket, loop or clock is touched here."""
