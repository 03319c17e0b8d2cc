"""Load: WebSocket on raw sockets, with epoll, in a process of its own, so that its work is not counted as a server's.

Every message is masked before the clock runs, and every byte that comes back is compared with what must come back.
"""
