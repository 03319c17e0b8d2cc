"""Peers: this runtime and what it is compared with, started on loopback and stopped, with nothing left.

`process` runs a server and reads what it uses; `registry` names all there are; the other modules are one peer each.
"""
