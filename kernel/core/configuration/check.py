"""The whole check: files in, an `Application` or every problem out.

Owns the order of the steps: each file to a document, each document to entries, all entries to an application.
"""

from __future__ import annotations

from collections.abc import Iterable

from ...wire.configuration import Application
from .assembly import Assembly, Sources
from .document import read_document
from .entries import Entries, File, FileReader
from .problems import Problem, Problems


def check_configuration(files: Iterable[File], sources: Sources) -> Application | tuple[Problem, ...]:
    """Check the files together. Return the application, or all problems in the order of their places."""
    problems = Problems()
    entries = Entries()
    for file in files:
        FileReader(file, entries, problems).read(read_document(file.path, file.content, problems))
    application = Assembly(entries, sources, problems).assemble()
    return problems.by_place() if problems else application
