"""`tools/bench isolation`: what a disturbance costs those who have nothing to do with it, in one run.

Calm and disturbed phases take turns, so that what else the machine does falls on both. `crashes`, `pressure` and the `excesses` are the
disturbances, `verdict` says what they may cost, `observed` reads memory and latencies.
"""
