"""Reads and checks the configuration: text in, an `Application` or every mistake out.

`document` reads YAML, `entries` checks each entry against the table in `schema`, `assembly` checks what they are together.
"""

from .assembly import Sources
from .check import check_configuration
from .entries import File
from .problems import Place, Problem

__all__ = ["File", "Place", "Problem", "Sources", "check_configuration"]
