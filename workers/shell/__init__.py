"""Performs: the channels of a worker, the fork server, and what runs a handler."""
