"""What a kernel with all controllers of cgroup v2 does for the limits of workers: run by tools/cgroup-test in its virtual machine, with the
installed Python.

`application` is what is served, `groups` reads the groups of the service, `checks` has a function for each promise. Nothing sleeps:
everything is waited for. What asks systemd and the journal is `service_checks`'.
"""
