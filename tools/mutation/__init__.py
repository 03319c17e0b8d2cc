"""tools/mutate: breaks one rule at a time in a copy of the tree, and reports which test catches it.

`model` says what a mutation is, `catalogue` has them all, `execution` applies one and runs its tests, `contained` keeps what
the broken code starts from getting away.
"""
