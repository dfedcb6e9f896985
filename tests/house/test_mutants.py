"""What `make mutants` says of mutmut's results."""

from __future__ import annotations

from tests.house.mutants import report

RESULTS = [
    *(f"    streamheal.core.case.move__mutmut_{nth}: killed" for nth in range(18)),
    "    streamheal.core.case.move__mutmut_18: timeout",
    "    streamheal.core.case.move__mutmut_19: caught by type check",
    "    streamheal.core.host.left__mutmut_1: survived",
    "",
]


def test_what_mypy_refuses_is_not_counted_and_what_never_ends_is_killed() -> None:
    said, enough = report(RESULTS, [])
    assert said == [
        "streamheal.core.host.left__mutmut_1: survived",
        "21 mutants: mypy refuses 1, and of 20 others the tests kill 19 (1 of them never end): 95.0 %; 1 survive",
    ]
    assert enough


def test_fewer_than_95_percent_are_not_enough_nor_is_none_at_all() -> None:
    assert not report([*RESULTS, "streamheal.core.host.left__mutmut_2: no tests"], [])[1]
    assert not report([], [])[1]


def test_only_those_asked_for_are_counted() -> None:
    assert report(RESULTS, ["streamheal.core.case*"])[1]
    assert not report(RESULTS, ["streamheal.core.host*"])[1]
