"""Cases: what is measured, on which servers, and what must be reached. Each measures one server at a time.

`model` holds the types and judges marks, without I/O; the other modules declare the cases; `every` lists them.
"""
