"""Random programs on a real runtime, with faults, until a promise is broken: `tools/soak`, and tests/faults/test_random_programs.py.

`program` has the operations as values, `application` the actors that carry them out, `interpreter` performs a program and asks the
checker of the fifteen invariants, `report` has the table.
"""
