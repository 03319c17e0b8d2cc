"""The benchmark: this runtime beside its peers, in one run, on one machine.

`echo` and `crash` are the measurements, `load` the load generator (a process of its own), `servers` starts and stops what
is measured, `report` prints.
"""
