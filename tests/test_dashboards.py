"""What deploy/ shows and watches exists, and every metric is explained."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml
from wsrelay.gateway.core.metrics import CATALOGUE

ROOT = Path(__file__).parent.parent
KINDS = {metric.name: metric for metric in CATALOGUE}
SUFFIXES = {"_bucket": "histogram", "_sum": "histogram", "_count": "histogram"}
OF_PROMETHEUS = {"job", "instance", "le"}


def check(expression: str) -> set[str]:
    """The metrics that an expression uses. Raises AssertionError for one that there is not, or a label that it has not."""
    used: set[str] = set()
    labels: set[str] = set(OF_PROMETHEUS)
    for name in re.findall(r"\bwsrelay_\w+", expression):
        base = name
        for suffix, kind in SUFFIXES.items():
            if name.endswith(suffix) and name not in KINDS:
                base = name.removesuffix(suffix)
                assert KINDS[base].kind == kind, f"{name}: {base} is no {kind}"
        assert base in KINDS, f"there is no metric {name}"
        assert KINDS[base].kind != "histogram" or base != name, f"{name} is a histogram"
        counted = re.search(rf"(rate|increase)\({name}\b", expression)
        assert KINDS[base].kind != "counter" or counted, f"{name} is a counter, and only its rate says something"
        used.add(base)
        labels |= set(KINDS[base].labels)
    for group in re.findall(r"\bby \(([^)]*)\)", expression):
        assert {label.strip() for label in group.split(",")} <= labels, f"{expression}: no such label in {group}"
    return used


def test_the_dashboard_shows_every_metric_that_there_is() -> None:
    dashboard: dict[str, Any] = json.loads((ROOT / "deploy/grafana/wsrelay.json").read_text())
    used = {name for panel in dashboard["panels"] for target in panel["targets"] for name in check(target["expr"])}
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            used |= check(variable["query"]["query"])
    left_out = {"supervisor_up", "start_time_seconds", "connection_seconds", "workers", "workers_measured"}
    assert used == KINDS.keys() - {f"wsrelay_{name}" for name in left_out}
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(ids)) == len(ids)


def test_the_alerts_are_about_metrics_that_there_are() -> None:
    rules = yaml.safe_load((ROOT / "deploy/prometheus/wsrelay.rules.yml").read_text())
    for group in rules["groups"]:
        for rule in group["rules"]:
            assert check(rule["expr"]) or rule["expr"].startswith("up{"), rule["alert"]
            assert rule["annotations"]["summary"]


def test_every_metric_is_explained() -> None:
    page = (ROOT / "docs/operations.md").read_text()
    named = set(re.findall(r"`(wsrelay_\w+)", page))
    assert named == KINDS.keys()
