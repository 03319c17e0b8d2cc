"""Conformance: the Autobahn Testsuite against an echo through a worker process.

`suite` finds, installs and runs the suite, `verdict` judges what it found. Neither knows how the runtime works: it is a
server on a port.
"""
