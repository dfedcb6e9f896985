"""How a processor is tested: no stream, no process, no waiting."""

from orders import Orders

from streamheal.testing import heal


def test_good_orders_are_done_and_strange_ones_set_aside() -> None:
    good, refund, no_order = {"customer": "ann", "cents": 1250}, {"customer": "bob", "cents": -1}, "hello"

    report = heal(Orders, [good, refund, no_order])

    assert [record.json() for record in report.done] == [good]
    assert [one.reason for one in report.quarantined] == ["rejected", "decode"]
