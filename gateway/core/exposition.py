"""Metrics as text: the format of Prometheus, version 0.0.4.

Owns the syntax, which is what the client library would be used for: a registry, locks and shared files it would bring along, and
the numbers are on objects of our own. `tests/gateway/test_metrics.py` has the library's parser read it. Knows no metric.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from ...kernel.wire.observation import HistogramData

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


class Metric(NamedTuple):
    """What is known of a metric beforehand. `kind` is `counter`, `gauge` or `histogram`."""

    name: str
    kind: str
    help: str
    labels: tuple[str, ...] = ()


Value = float | HistogramData


class Samples:
    """The values of one scrape."""

    def __init__(self, catalogue: Sequence[Metric]) -> None:
        self._catalogue = catalogue
        self._values: dict[str, dict[tuple[str, ...], Value]] = {metric.name: {} for metric in catalogue}

    def put(self, name: str, value: Value, *labels: str) -> None:
        """Add one value. Raises KeyError for a metric that is not in the catalogue."""
        self._values[name][labels] = value

    def put_all(self, name: str, values: Mapping[str, float]) -> None:
        """Add one value for each value of the only label."""
        for label, value in values.items():
            self.put(name, value, label)

    def render(self) -> bytes:
        """Return the text, in the order of the catalogue. Metrics without a value are left out."""
        lines: list[str] = []
        for metric in self._catalogue:
            values = self._values[metric.name]
            if values:
                lines.append(f"# HELP {metric.name} {_escape_help(metric.help)}")
                lines.append(f"# TYPE {metric.name} {metric.kind}")
            for labels, value in values.items():
                pairs = list(zip(metric.labels, labels, strict=True))
                if isinstance(value, HistogramData):
                    lines += _histogram(metric.name, pairs, value)
                else:
                    lines.append(f"{metric.name}{_labels(pairs)} {_number(value)}")
        return ("\n".join(lines) + "\n").encode()


def _histogram(name: str, pairs: list[tuple[str, str]], data: HistogramData) -> Iterable[str]:
    total = 0
    for bound, count in zip((*data.bounds, math.inf), data.counts, strict=True):
        total += count
        yield f"{name}_bucket{_labels([*pairs, ('le', _number(bound))])} {total}"
    yield f"{name}_sum{_labels(pairs)} {_number(data.sum)}"
    yield f"{name}_count{_labels(pairs)} {total}"


def _labels(pairs: Iterable[tuple[str, str]]) -> str:
    inner = ",".join(f'{name}="{_escape(value)}"' for name, value in pairs)
    return f"{{{inner}}}" if inner else ""


def _number(value: float) -> str:
    return "+Inf" if value == math.inf else repr(value)


def _escape(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _escape_help(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n")
