"""Performs: uvicorn, sockets, the link to the supervisor, the data channels to the workers."""
