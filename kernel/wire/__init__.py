"""What every process of the runtime agrees on: PIDs, reasons, errors, messages, and how they travel.

The only part of the kernel that the gateway and the workers import. Imports the standard library and msgpack.
"""
