"""What the runtime says to systemd, and takes from it: notifications, the watchdog, sockets, units.

Nothing here is needed where there is no systemd: each part does nothing without its environment variable.
"""
