"""The command line: `wsrelay run`, `check`, `install-unit`, and what is asked of a runtime: `reload`, `status`, `start` and so on.

Owns the arguments, the exit codes and what is printed. Knows nothing of how a configuration is checked or served. Exit codes:
0 for success, 1 for a configuration with mistakes or what cannot be had, 2 for wrong arguments, 3 for a runtime that does not answer;
`run` returns the supervisor's own.
"""

from __future__ import annotations

import argparse
import gc
import logging
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any

from ..wire import logs
from ..wire.configuration import Application
from .configuration_files import ConfigurationError, load
from .errors import StartError

_INSTALL = (
    "Writes NAME.service, and NAME.socket for the first TCP address (NAME-NAMESPACE-SERVICE.socket for each further)."
)
_ASKS = {
    "reload": "have a runtime check its configuration and take it over, with new code",
    "status": "say how a runtime is",
    "start": "start a service of a runtime",
    "stop": "stop a service of a runtime",
    "restart": "restart a service of a runtime that runs",
}
"""Commands that are asked of a runtime that serves."""
_STANDARD_ERROR = 2
LOG_LEVELS = ("debug", "info", "warning", "error")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    _open_standard_streams()
    arguments = _parser().parse_args(argv)
    if arguments.command in _ASKS:
        return _ask(arguments)
    _let_signals_end_it(serving=arguments.command == "run")
    try:
        application = load(arguments.paths, serving=arguments.command == "run")
    except ConfigurationError as error:
        _tell_mistakes(error.problems, arguments.log_format if arguments.command == "run" else "text")
        return 1
    if arguments.command == "check":
        print(summary(application))  # noqa: T201
        return 0
    if arguments.command == "install-unit":
        return _install_unit(application, arguments)
    gc.disable()  # all that is made here stays
    from .boot import serve  # a check needs none of it

    gc.enable()
    return serve(
        application,
        arguments.paths,
        log_level=arguments.log_level,
        log_format=arguments.log_format,
        run_directory=arguments.run_directory,
    )


def _tell_mistakes(problems: Sequence[str], log_format: str) -> None:
    """Where people read, each is a line that begins with its place; where the log is for programs, an entry like any other."""
    try:
        log_format = logs.resolve(log_format, os.environ)
    except OSError:  # no journal
        log_format = "text"
    if log_format == "text":
        for problem in problems:
            print(problem, file=sys.stderr)  # noqa: T201
        return
    logs.setup(log_format, "error")
    for problem in problems:
        logging.getLogger("wsrelay").error("%s", problem)


def _open_standard_streams() -> None:
    """Have 0, 1 and 2 be open files, before anything else gets these numbers: a worker's channel, say, which everybody who prints would
    then write to."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= _STANDARD_ERROR:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    if sys.stdout is None:
        sys.stdout = os.fdopen(1, "w", closefd=False)
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", closefd=False)


def _let_signals_end_it(*, serving: bool) -> None:
    """Until the guardian listens. To PID 1 a signal without a handler does nothing: a container that is stopped while a large
    configuration is checked would run on. What is not `serving` has not done what it was to do: no exit code says that it has."""
    if os.getpid() == 1:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda came, _: os._exit(0 if serving else 128 + came))


class _ShowVersion(argparse.Action):
    """Looks the version up only where it is asked for: what does that takes longer to import than the command line."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from importlib.metadata import version

        print(f"wsrelay {version('wsrelay')}")  # noqa: T201
        parser.exit()


def _ask(arguments: argparse.Namespace) -> int:
    from .control import run_directory
    from .operator import ask

    request = {"command": arguments.command, "service": getattr(arguments, "service", None)}
    if arguments.command == "reload":
        request["restart"] = arguments.restart
    return ask(run_directory(arguments.run_directory, os.environ), arguments.paths, request)


def _install_unit(application: Application, arguments: argparse.Namespace) -> int:
    from .systemd import install

    try:
        files = install.plan(
            application,
            arguments.paths,
            name=arguments.name,
            user=arguments.user,
            systemd=arguments.systemd or install.find_version(),
        )
        if arguments.print:
            print("\n".join(f"# {name}\n{text}" for name, text in files.items()), end="")  # noqa: T201
            return 0
        for path in install.write(files, arguments.directory):
            print(f"wrote {path}")  # noqa: T201
    except StartError as problem:
        print(f"error: {problem}", file=sys.stderr)  # noqa: T201
        return 1
    print(install.advice(files, arguments.name))  # noqa: T201
    return 0


def summary(application: Application) -> str:
    """Return what a good configuration holds, in one line."""
    servers = application.gateway.servers
    counts = (
        (len(servers), "server", "servers"),
        (sum(len(server.routes) for server in servers), "route", "routes"),
        (len(application.hosts), "host", "hosts"),
        (len(application.functions), "function", "functions"),
        (len(application.processes), "process", "processes"),
    )
    return "ok: " + ", ".join(f"{count} {one if count == 1 else many}" for count, one, many in counts)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="wsrelay", description="Crash-isolated WebSocket backends for Python.")
    parser.add_argument("--version", action=_ShowVersion, nargs=0, help="show program's version number and exit")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="check the configuration and serve it, until interrupted")
    check = commands.add_parser("check", help="check the configuration and print every mistake")
    install = commands.add_parser(
        "install-unit", help="write the systemd units that run the application with this Python", description=_INSTALL
    )
    for command in (run, check, install):
        command.add_argument(
            "paths", nargs="+", metavar="FILE|DIR", help="a YAML file, or a folder with every _index.yaml below it"
        )
    asks = []
    for name, about in _ASKS.items():
        command = commands.add_parser(name, help=about)
        if name in ("start", "stop", "restart"):
            command.add_argument("service", metavar="SERVICE", help="the id of a process.service, namespace:name")
        command.add_argument(
            "paths", nargs="*", metavar="FILE|DIR", help="what the runtime serves; not needed if it is the only one"
        )
        asks.append(command)
        if name == "reload":
            command.add_argument(
                "--restart", action="store_true", help="restart the services even if their code is the same"
            )
    for command in (run, *asks):
        command.add_argument(
            "--run-directory",
            metavar="DIR",
            help="where the control socket is (default: RUNTIME_DIRECTORY/control, XDG_RUNTIME_DIR/wsrelay or /tmp/wsrelay-UID)",
        )
    run.add_argument("--log-level", choices=LOG_LEVELS, default="info", help="how much the log says (default: info)")
    run.add_argument(
        "--log-format",
        choices=logs.FORMATS,
        default="auto",
        help="text, json, or journal with fields; auto is the journal where standard error leads there, else text",
    )
    install.add_argument("--name", default="wsrelay", help="the name of the units (default: wsrelay)")
    install.add_argument("--user", help="who the service runs as (default: a dynamic user)")
    install.add_argument(
        "--directory",
        default="/etc/systemd/system",
        metavar="DIR",
        help="where to write (default: /etc/systemd/system)",
    )
    install.add_argument(
        "--systemd", metavar="VERSION", type=int, help="the systemd that they are for (default: this machine's)"
    )
    install.add_argument("--print", action="store_true", help="print the units and write nothing")
    return parser
