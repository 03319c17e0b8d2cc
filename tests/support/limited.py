"""A runtime with a second host that has limits, a culprit there, and who is not to be disturbed by it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .puppet import PUPPET_ENTRIES, PUPPET_SOURCES, Puppet
from .runtime import Entries, Runtime, endpoint, running_runtime

LIMITED = "app:limited"


def entries(host: Mapping[str, Any], functions: Mapping[str, str] | None = None) -> Entries:
    """The puppets, a second host `app:limited` with these fields, and functions that run there."""
    made = [dict(entry) for entry in PUPPET_ENTRIES]
    for entry in made:
        if entry["kind"] == "function.python":
            entry["host"] = "processes"
    made.append({"name": "limited", "kind": "process.host", "functions": 1, **host})
    for path, method in (functions or {}).items():
        function, route = endpoint(path, method, source="file://functions.py")
        made += [{**function, "host": "limited"}, route]
    return made


@contextlib.contextmanager
def confined(
    tmp_path: Path, variables: Mapping[str, str] | None = None, sources: Mapping[str, str] | None = None, **host: Any
) -> Iterator[Runtime]:
    """A runtime whose host `app:limited` has these fields."""
    with running_runtime(
        tmp_path, entries(host), {**PUPPET_SOURCES, **(sources or {})}, environment=variables
    ) as runtime:
        yield runtime


class Scene:
    """A culprit on the limited host, somebody beside it there, and who watches from elsewhere."""

    def __init__(self, runtime: Runtime, puppets: contextlib.ExitStack) -> None:
        self.watcher = puppets.enter_context(Puppet(runtime))
        self.bystander = puppets.enter_context(Puppet(runtime, LIMITED))
        self.culprit = puppets.enter_context(Puppet(runtime, LIMITED))
        self.watcher.do("process.monitor(other)", other=self.culprit.pid)
        self.watcher.do("process.monitor(other)", other=self.bystander.pid)

    def check_only_the_culprit_ends(self, kind: str) -> None:
        """Its client and its watcher learn of `kind`; the others go on."""
        assert self.culprit.end() == (1011, kind)  # S49
        event = self.watcher.event()
        assert (event["sender"], event["kind"], event["origin"]) == (self.culprit.pid, kind, None)
        assert self.bystander.do("'fine'") == "fine"
        assert self.watcher.events_now() == []


@contextlib.contextmanager
def scene(runtime: Runtime) -> Iterator[Scene]:
    with contextlib.ExitStack() as puppets:
        yield Scene(runtime, puppets)
