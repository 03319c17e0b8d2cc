"""What counts as conformant."""

from __future__ import annotations

import pytest
from conformance import verdict
from conformance.verdict import Case


def test_an_index_is_read_in_the_order_of_the_suite() -> None:
    found = verdict.read({"x": {"10.1.1": result("OK"), "9.2.1": result("OK"), "9.10.1": result("NON-STRICT")}})
    assert [case.number for case in found] == ["9.2.1", "9.10.1", "10.1.1"]
    assert found[1].group == "9"


def test_a_run_without_a_case_is_no_pass() -> None:
    with pytest.raises(ValueError, match="no case"):
        verdict.read({"x": {}})


def test_a_wrong_closing_is_a_failure() -> None:
    cases = [Case("1.1.1", "OK", "OK"), Case("7.1.1", "OK", "UNCLEAN")]
    assert [problem.partition(":")[0] for problem in verdict.problems(cases)] == ["7.1.1"]


def test_unimplemented_is_a_failure() -> None:
    assert verdict.problems([Case("12.1.1", "UNIMPLEMENTED", "OK")])


def test_as_many_cases_may_be_non_strict_as_wsproto_has() -> None:
    cases = [Case(f"3.{number}", "NON-STRICT", "OK") for number in range(1, 9)]
    assert not verdict.problems(cases[:7])
    assert verdict.problems(cases)


def test_the_table_counts_groups_and_names_what_is_not_ok() -> None:
    table = verdict.table(
        [Case("1.1.1", "OK", "OK"), Case("3.2", "NON-STRICT", "OK"), Case("9.1.6", "FAILED", "FAILED")]
    )
    assert "NON-STRICT: 3.2" in table
    assert "FAILED: 9.1.6" in table


def result(behavior: str) -> dict[str, object]:
    return {"behavior": behavior, "behaviorClose": "OK"}
