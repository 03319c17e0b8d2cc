"""Decides: mail, events, replies, and what may be sent. No socket or process is touched here."""
