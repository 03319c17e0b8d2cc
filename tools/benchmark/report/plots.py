"""Plots: distributions of latency, and growth with the number of connections. Draws with matplotlib (extra `bench`)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..cases.echo import GROWTH_CONNECTIONS
from ..cases.model import median
from ..load.latency import bucket_start
from ..peers.registry import PEERS
from .documents import ensure_writable

STYLES = {
    "wsrelay": ("#d62728", "-"),
    "wsrelay-coalesced": ("#d62728", "--"),
    "wsrelay-own": ("#ff9896", "-"),
    "uvicorn-websockets": ("#1f77b4", "-"),
    "uvicorn-wsproto": ("#17becf", "-"),
    "websockets": ("#9467bd", "-"),
    "node": ("#2ca02c", "-"),
    "nginx": ("#8c564b", "-"),
    "websocketd": ("#7f7f7f", "-"),
    "pushpin": ("#bcbd22", "-"),
}


def ensure_possible(folder: Path) -> None:
    """Raises RuntimeError without matplotlib, or if nothing can be written to `folder`, which is made if it is missing."""
    try:
        import matplotlib
    except ImportError:
        raise RuntimeError("plots need matplotlib: 'tools/bench --install-peers' installs it") from None
    matplotlib.use("Agg")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise RuntimeError(f"{folder} cannot be a folder for plots: {problem.strerror}") from problem
    ensure_writable(folder / "echo.png")


def draw(document: Mapping[str, Any], folder: Path) -> list[Path]:
    """Draw what the results hold. Returns the files. Raises RuntimeError as `ensure_possible` does."""
    ensure_possible(folder)
    results = document["cases"]
    made = []
    for name, unit in (("echo-one", "µs"), ("echo-many", "µs"), ("spawn", "ms"), ("crash", "ms"), ("connect", "ms")):
        if name in results and (series := _distributions(results[name]["servers"])):
            made.append(_draw_distribution(folder / f"{name}.png", results[name], series, unit))
    if "growth" in results:
        made.append(_draw_growth(folder / "growth.png", results["growth"]))
    for name, measure, title in (("echo", "rate", "messages/s"), ("echo-large", "rate", "messages/s")):
        if name in results:
            made.append(_draw_bars(folder / f"{name}.png", results[name], measure, title))
    return made


def _distributions(servers: Mapping[str, Any]) -> dict[str, tuple[list[float], list[float]]]:
    """For each server: latencies in microseconds, and the share of messages that took longer."""
    found = {}
    for name, rounds in servers.items():
        counts: dict[int, int] = {}
        for one in rounds:
            for key, count in one.get("histogram", {}).items():
                counts[int(key)] = counts.get(int(key), 0) + count
        total = sum(counts.values())
        left, values, shares = total, [], []
        for number in sorted(counts):
            values.append(bucket_start(number + 1))
            left -= counts[number]
            shares.append(max(left / total, 0.5 / total))
        if values:
            found[name] = (values, shares)
    return found


def _draw_distribution(
    path: Path, result: Mapping[str, Any], series: Mapping[str, tuple[Sequence[float], Sequence[float]]], unit: str
) -> Path:
    """How many took longer than that: both axes are logarithmic, so that the slow ones show."""
    from matplotlib import pyplot

    scale = 1000 if unit == "ms" else 1
    rounds = result["servers"]
    figure, axes = pyplot.subplots(figsize=(9, 4.6 + 0.11 * len(series)), dpi=110)
    ordered = sorted(series, key=lambda name: median(rounds[name], "p50") or 0.0)
    for name in ordered:
        values, shares = series[name]
        color, line = STYLES.get(name, ("#333333", "-"))
        width = 2.4 if name.partition("-")[0] == "wsrelay" else 1.4
        middle, slow = (_figure(median(rounds[name], key), scale) for key in ("p50", "p99"))
        label = f"{PEERS[name].title}: p50 {middle}, p99 {slow} {unit}"
        axes.step(
            [value / scale for value in values], shares, line, where="post", color=color, linewidth=width, label=label
        )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_yticks([1, 0.5, 0.1, 0.01, 0.001], ["all", "half", "1 in 10", "1 in 100", "1 in 1,000"])
    axes.set_ylim(0.0008, 1.05)
    axes.set_xlabel(unit)
    axes.set_ylabel("took longer")
    axes.xaxis.set_major_formatter(_plain)
    axes.xaxis.set_minor_formatter(_few(axes))
    axes.set_title(result["title"])
    axes.grid(visible=True, which="both", alpha=0.25)
    axes.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=2, frameon=False)
    return _save(figure, path)


def _figure(microseconds: float | None, scale: int) -> str:
    value = (microseconds or 0.0) / scale
    return f"{value:.2f}" if value < 10 else f"{value:,.0f}"


def _plain(value: float, _: object = None) -> str:
    return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"


def _few(axes: Any) -> Any:
    """Labels between the powers of ten, where there is room for them."""

    def label(value: float, _: object = None) -> str:
        low, high = axes.get_xlim()
        mantissa = value / 10 ** math.floor(math.log10(value))
        shown = (2, 5) if high / low > 30 else (2, 3, 5, 7)
        return _plain(value) if round(mantissa) in shown else ""

    return label


def _draw_growth(path: Path, result: Mapping[str, Any]) -> Path:
    """CPU per message, and latency, by the number of connections."""
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4.6), dpi=110)
    for axes, key, scale, title in ((left, "CPU", 1, "CPU µs/message, whole tree"), (right, "p99", 1000, "p99 ms")):
        for name, rounds in result["servers"].items():
            points = [(count, median(rounds, f"{key} at {count}")) for count in GROWTH_CONNECTIONS]
            known = [(count, value / scale) for count, value in points if value is not None]
            color, line = STYLES.get(name, ("#333333", "-"))
            axes.plot(*zip(*known, strict=True), line, marker="o", color=color, label=PEERS[name].title)
        axes.set_xscale("log")
        axes.set_xticks(GROWTH_CONNECTIONS, [f"{count:,}" for count in GROWTH_CONNECTIONS])
        axes.minorticks_off()
        axes.set_ylim(bottom=0)
        axes.set_xlabel("connections")
        axes.set_ylabel(title)
        axes.grid(visible=True, alpha=0.25)
    left.legend(fontsize=8)
    figure.suptitle(result["title"])
    return _save(figure, path)


def _draw_bars(path: Path, result: Mapping[str, Any], measure: str, title: str) -> Path:
    """One bar for each server, with the range of its rounds."""
    from matplotlib import pyplot

    servers = result["servers"]
    ordered = sorted(servers, key=lambda name: median(servers[name], measure) or 0)
    figure, axes = pyplot.subplots(figsize=(9, 0.9 + 0.42 * len(ordered)), dpi=110)
    for number, name in enumerate(ordered):
        values = [one[measure] for one in servers[name]]
        middle = median(servers[name], measure) or 0.0
        error = [[middle - min(values)], [max(values) - middle]]
        color = STYLES.get(name, ("#333333", "-"))[0]
        axes.barh(number, middle, color=color, alpha=1 if PEERS[name].isolated else 0.55, xerr=error, capsize=3)
        axes.annotate(f" {middle:,.0f}", (max(values), number), va="center", fontsize=8)
    labels = [f"{PEERS[name].title}{'' if PEERS[name].isolated else ' (in process)'}" for name in ordered]
    axes.set_yticks(range(len(ordered)), labels, fontsize=8)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.set_xlabel(title)
    axes.set_title(result["title"])
    axes.margins(x=0.12)
    axes.grid(visible=True, axis="x", alpha=0.25)
    return _save(figure, path)


def _save(figure: Any, path: Path) -> Path:
    from matplotlib import pyplot

    path.parent.mkdir(parents=True, exist_ok=True)
    figure.tight_layout()
    figure.savefig(path, metadata={"Software": None})
    pyplot.close(figure)
    return path
