"""A mutation: one change that breaks one rule. No I/O but reading the file that it changes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Mutation:
    """Replace a text that is in a file exactly once by another, and some test must fail."""

    name: str
    rule: str
    """The rule of docs/semantics.md that it breaks, `S14`; for the checker of the kit the invariant, `invariant 3`."""
    file: str
    """Relative to the root."""
    old: str
    """Short, and of code that seldom changes."""
    new: str
    tests: tuple[str, ...]
    """What ought to see it, as pytest takes it: the narrowest files, the quickest first."""

    def apply(self, text: str) -> str:
        """Return the mutated text of the file. Raises ValueError unless the old text is there exactly once."""
        count = text.count(self.old)
        if count != 1:
            raise ValueError(f"{self.name}: {self.file} has the old text {count} times, expected once: {self.old!r}")
        return text.replace(self.old, self.new)


def problems(root: Path, mutations: tuple[Mutation, ...]) -> list[str]:
    """What is wrong with the list itself: old texts that are gone or not unique, code that does not compile, tests that are
    not there, names that are used twice."""
    found = []
    names = [mutation.name for mutation in mutations]
    found += [f"{name}: the name is used twice" for name in sorted({name for name in names if names.count(name) > 1})]
    for mutation in mutations:
        path = root / mutation.file
        if not path.is_file():
            found.append(f"{mutation.name}: there is no file {mutation.file}")
            continue
        try:
            compile(mutation.apply(path.read_text()), mutation.file, "exec")
        except (ValueError, SyntaxError) as problem:
            found.append(str(problem) if isinstance(problem, ValueError) else f"{mutation.name}: {problem}")
        if not mutation.tests:
            found.append(f"{mutation.name}: it names no test")
        missing = [test for test in mutation.tests if not (root / test.partition("::")[0]).exists()]
        found += [f"{mutation.name}: there is no {test}" for test in missing]
    return found
