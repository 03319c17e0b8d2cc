"""The fault-injection kit: journals, failpoints, and the checker of the invariants. docs/journal.md is its guide."""
