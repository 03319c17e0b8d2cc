"""Report: what a run found, as tables, JSON, plots and a page; and whether it got worse.

`text` has tables and the conditions of a run, `tables` makes tables of results, `documents` reads and writes JSON, `plots` draws,
`page` writes the tables into docs/performance/README.md with what `isolated` makes of the disturbances, `regression` compares with
the committed ratios. None of them measures.
"""
