"""Exceptions as data: whatever user code raises, describing it never fails."""

from __future__ import annotations

import os
import sys
import types
from typing import Any

import pytest

from streamheal.attempts import MESSAGE_BYTES_MAX, TRACEBACK_BYTES_MAX
from streamheal.errors import DecodeError, Poison, Retry, Throttled
from streamheal.workers.child.failures import describe, kind_of
from streamheal.workers.frames import dumped, told
from streamheal.workers.wire import Raised


def raised(error: BaseException) -> Raised:
    try:
        raise error
    except BaseException as caught:
        return describe(caught, "exception")


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no")

    __repr__ = __str__


def test_a_failure_reads_as_python_prints_it() -> None:
    def price() -> None:
        raise KeyError("customer")

    try:
        price()
    except KeyError as error:
        found = describe(error, "exception")
    assert (found.exception_type, found.message) == ("KeyError", "'customer'")
    assert (found.traceback or "").startswith("Traceback (most recent call last):")
    assert (found.traceback or "").endswith("KeyError: 'customer'\n")
    assert [frame.rpartition(":")[2] for frame in found.frames][-2:] == [
        "test_a_failure_reads_as_python_prints_it",
        "price",
    ]
    assert (found.where or "").endswith(" in price")


def test_a_types_module_is_named_but_for_builtins() -> None:
    assert raised(Unprintable()).exception_type == f"{__name__}.Unprintable"
    assert raised(ValueError()).exception_type == "ValueError"


def test_exceptions_that_cannot_be_printed_are_described() -> None:
    found = raised(Unprintable())
    assert found.message == "<its __str__ raised RuntimeError>"
    assert "Unprintable" in (found.traceback or "")


def test_huge_texts_are_cut() -> None:
    found = raised(ValueError("x" * 50_000_000))
    assert len(found.message.encode()) <= MESSAGE_BYTES_MAX
    assert len((found.traceback or "").encode()) <= TRACEBACK_BYTES_MAX
    assert "bytes cut" in found.message


def test_causes_in_a_circle_groups_and_deep_recursion_are_described() -> None:
    one, two = ValueError("one"), ValueError("two")
    one.__cause__, two.__cause__ = two, one
    assert "one" in (raised(one).traceback or "")

    group = raised(ExceptionGroup("several", [ValueError("a"), ExceptionGroup("more", [KeyError("b")])]))
    assert group.exception_type == "ExceptionGroup"
    assert "KeyError: 'b'" in (group.traceback or "")

    def forever() -> None:
        forever()

    with pytest.raises(RecursionError) as deep:
        forever()
    assert "previous line repeated" in (describe(deep.value, "exception").traceback or "").lower()


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit, MemoryError])
def test_every_base_exception_is_described(kind: type[BaseException]) -> None:
    assert raised(kind("gone")).exception_type == kind.__name__


def test_without_frames_of_the_application_the_innermost_is_told() -> None:
    import json

    code = compile("import json\njson.loads('{')", f"{sys.prefix}/lib/python3/site-packages/lib.py", "exec")
    try:
        exec(code, {})
    except json.JSONDecodeError as error:
        found = describe(error, "exception")
    names = [frame.rpartition(":")[2] for frame in found.frames]
    assert "raw_decode" not in names, "ours here, this test's, is the application's"
    tb: Any = error_of(code)
    assert told(frames_of(tb.tb_next))[0] == ("decoder.py:raw_decode",)


def error_of(code: types.CodeType) -> types.TracebackType | None:
    try:
        exec(code, {})
    except ValueError as error:
        return error.__traceback__
    raise AssertionError("it should have raised")


def frames_of(tb: types.TracebackType) -> Any:
    from streamheal.workers.child.failures import _frames

    return _frames(tb)


def test_a_failure_is_of_one_class() -> None:
    class Mine(Exception):
        pass

    def cause(error: BaseException) -> tuple[str, str]:
        kind = kind_of(error, (ZeroDivisionError,), (Mine,))
        return kind.outcome, kind.cause

    assert cause(ValueError()) == ("exception", "RAISED")
    assert cause(Retry()) == ("exception", "RAISED")
    assert cause(Poison()) == ("rejected", "POISON")
    assert cause(DecodeError()) == ("decode", "POISON")
    assert cause(ZeroDivisionError()) == ("exception", "POISON")
    assert cause(Throttled()) == ("throttled", "THROTTLED")
    assert cause(Mine()) == ("throttled", "THROTTLED")
    assert cause(SystemExit()) == ("exception", "RAISED")
    assert kind_of(Throttled(retry_after_s=7), (), ()).retry_after_s == 7.0


def test_botocores_throttling_is_known() -> None:
    from botocore.exceptions import ClientError

    def client_error(code: str) -> ClientError:
        return ClientError({"Error": {"Code": code, "Message": ""}}, "PutItem")

    assert kind_of(client_error("ProvisionedThroughputExceededException"), (), ()).cause == "THROTTLED"
    assert kind_of(client_error("SlowDown"), (), ()).cause == "THROTTLED"
    assert kind_of(client_error("AccessDenied"), (), ()).cause == "RAISED"

    lookalike = ValueError()
    lookalike.response = {"Error": {"Code": "SlowDown"}}  # type: ignore[attr-defined]  # as user code might
    assert kind_of(lookalike, (), ()).cause == "RAISED"


def test_a_crash_is_where_its_thread_was() -> None:
    """faulthandler writes the innermost first, the crashed thread as `Current`, the main thread last."""
    stdlib = os.path.dirname(os.__file__)
    dump = f"""Fatal Python error: Segmentation fault

Thread 0x00007f01 (most recent call first):
  File "/app/pump.py", line 9 in pump
  File "{stdlib}/threading.py", line 982 in run

Current thread 0x00007f02 (most recent call first):
  File "{stdlib}/ctypes/__init__.py", line 519 in string_at
  File "/app/orders.py", line 41 in price
  File "<string>", line 5 in <module>

Thread 0x00007f03 (most recent call first):
  File "{stdlib}/selectors.py", line 468 in select
"""
    assert told(dumped(dump, crashed=True)) == (("orders.py:price",), "orders.py:41 in price")
    assert told(dumped(dump, crashed=False)) == (("selectors.py:select",), "selectors.py:468 in select")
    only = dump.replace("/app/orders.py", f"{stdlib}/json.py")
    assert told(dumped(only, crashed=False)) == (("pump.py:pump",), "pump.py:9 in pump")
