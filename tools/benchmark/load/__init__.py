"""Load: WebSocket on raw sockets, with epoll, in a process of its own, so that its work is not counted as a server's.

Every message is masked before the clock runs, and every byte that comes back is compared with what must come back. The kinds
that measure are written in C (`source/`), so that they cost little beside a server on the same processors; those that need
zlib, or only hold and disturb, in Python.
"""
