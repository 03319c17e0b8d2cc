"""What a service that systemd runs is held to: run by tools/systemd-test, inside its container, with the installed Python.

`application` is what is served, `asking` asks systemd, the journal and the relay, `checks` has a function for each promise, `load` the restart
under load. Nothing sleeps: everything is waited for.
"""
