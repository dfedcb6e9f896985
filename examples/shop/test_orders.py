"""How a processor is tested: no stream, no process, no waiting."""

from typing import Any

from orders import Orders

from streamheal.testing import heal


def order(**changes: Any) -> dict[str, Any]:
    return {"customer": "ann", "cents": 1250, "people": 2} | changes


def test_good_orders_are_done_and_strange_ones_set_aside() -> None:
    refund, nobody, no_order = order(cents=-1), order(people=0), "hello"

    report = heal(Orders, [order(), refund, nobody, no_order, order()])

    assert len(report.done) == 2
    assert [one.reason for one in report.quarantined] == ["rejected", "exception", "decode"]
    assert report.quarantined[1].exception_type == "ZeroDivisionError"
