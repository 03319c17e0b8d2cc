"""The process of the kinds of load that are written in Python: takes what to do as JSON on the command line.

Prints one line when it starts to measure and one with the result, as the compiled program does.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from typing import Any

from . import deaf, deflated, flood, idle

KINDS: dict[str, Callable[..., dict[str, Any]]] = {
    "deaf": deaf.run,
    "deflated": deflated.run,
    "flood": flood.run,
    "idle": idle.run,
}


def main() -> None:
    """Make the load."""
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("parameters", type=json.loads)
    arguments = parser.parse_args()
    try:
        result = KINDS[arguments.kind](**arguments.parameters)
    except (OSError, ValueError) as problem:
        sys.exit(f"{type(problem).__name__}: {problem}")
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
