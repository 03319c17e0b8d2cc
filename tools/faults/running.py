"""From an application to a runtime that runs it, and back to nothing.

    with running_runtime("examples/echo") as runtime, runtime.connect("/ws/echo") as client:
        client.send("hello")

Owns the folder in which all of it is, and the order in which a test's end is checked.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import warnings
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from .applications import Entries, check_ids, make_application, users_of
from .openness import PASS_THROUGH, check_way, open_to_read
from .points import PointNeverReached
from .runtime import Runtime, points_of, temporary_of


@contextlib.contextmanager
def running_runtime(
    application: Path | Entries,
    sources: Mapping[str, str] | None = None,
    *,
    folder: Path | None = None,
    services: int = 1,
    environment: Mapping[str, str] | None = None,
    keeps: Collection[str] = (),
    strict: bool = True,
) -> Iterator[Runtime]:
    """Run an application. At the end: everything is as it was at the start, then SIGTERM, exit status 0, and nothing left.

    `application` is the path of a YAML file or folder, which is copied; or entries, or the text of a file, with `sources` (file
    name to text). Its services listen on free ports; one with a `unix:` address on a socket in the kit's folder
    (`Runtime.addresses`). `folder` is where the copies, the log and temporary files go; by default a temporary one, which is removed.
    If a host has a `user`, that one must be able to pass through it, and by default can.
    `services` is how many `http.service` to wait for, `environment` is added to this process's own, `keeps` as in
    `Runtime.check_as_found`. Without `strict`, actors, monitors and clients may be there until the stop. A test may have stopped
    the runtime, or waited for its end, before. Raises AssertionError; one that the block raises comes with the end of the log. Raises
    ValueError for an entry in `keeps` that there is not, PermissionError for a `folder` that is closed to a user, and FileNotFoundError.
    """
    with contextlib.ExitStack() as stack:
        users = users_of(application) if os.geteuid() == 0 else {}
        if folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="wsrelay-faults-")))
            if users:
                folder.chmod(PASS_THROUGH)
        check_way(folder, users)
        place = folder / f"application-{len(list(folder.iterdir()))}"
        make_application(application, sources or {}, place, temporary_of(place), points_of(place))
        check_ids(place, keeps)
        if users:
            open_to_read(place, {"_index.yaml", *(sources or ())})
        yield stack.enter_context(_running(place, services, environment, keeps, strict, bool(users)))


@contextlib.contextmanager
def _running(
    folder: Path,
    services: int,
    environment: Mapping[str, str] | None,
    keeps: Collection[str],
    strict: bool,
    shared: bool,
) -> Iterator[Runtime]:
    runtime = Runtime(folder, environment, shared=shared)
    runtime.strict = strict
    try:
        runtime.wait_ready(services)
        if strict:
            runtime.remember_start()
        try:
            yield runtime
        except Exception as error:
            error.add_note(f"the log of the runtime:\n{runtime.log_end()}")
            raise
        stopped_by_test = runtime.process.returncode is not None
        if runtime.strict and not stopped_by_test:
            runtime.check_as_found(keeps)
        status = runtime.stop()
        assert stopped_by_test or status == 0, f"the runtime ended with {status}:\n{runtime.log_end()}"
        runtime.check_nothing_left()
        for name in runtime.points.never_reached():
            warnings.warn(PointNeverReached(f"the point {name!r} was armed, and never reached"), stacklevel=1)
    finally:
        runtime.kill()
        runtime.remove_sockets()
        runtime.points.close()
