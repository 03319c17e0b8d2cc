"""Decides: the process table and the configuration check. No process, socket, file or clock is touched here."""
