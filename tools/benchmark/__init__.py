"""The benchmark: this runtime beside its peers, in one run, on one machine.

`load` makes the load, in processes of its own. `peers` starts and stops what is measured. `cases` says what is measured, what
must be reached, and performs it on one server. `runner` goes through the cases in interleaved rounds. `report` writes what
came out: tables, JSON, plots, the page. `floor` counts system calls. `arguments` says what goes with what on the command line,
`interruption` that nothing stays of a run that is stopped. None of it is imported by the product.
"""
