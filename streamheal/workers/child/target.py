"""What TARGET names: imported, told apart, and made ready to run records."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
import traceback
from abc import ABCMeta
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from streamheal.errors import TargetError
from streamheal.processor import RecordProcessor
from streamheal.records import Record, Shard
from streamheal.workers import wire
from streamheal.workers.child.failures import type_name

_DEFAULT_CONCURRENCY = {"plain": 1, "async": 100, "batch": 1}
_ORDERINGS = ("shard", "key", "none")
_SHAPE = "(TARGET, as module:Class or module:function)"


class Options(NamedTuple):
    """What is in force where the processor says nothing."""

    ordering: str
    concurrency: int | None
    deadline_s: float


class Target(NamedTuple):
    """A processor's kind. `make` gives one for a shard; it is user code and may raise.

    `stating`: returning from a record is not its word; it says itself how far it is done.
    """

    make: Callable[[], Any]
    mode: str
    facts: wire.Facts
    stating: bool = False


def load(target: str, options: Options) -> Target:
    """Import what TARGET names.

    Raises:
        TargetError: In one plain sentence, what is wrong with it.
    """
    module_name, _, path = target.partition(":")
    if not path or not all(part.isidentifier() for part in (*module_name.split("."), *path.split("."))):
        raise TargetError(f"{target!r} is not of the form module:Class or module:function   (TARGET)")
    found = _find(_import(module_name), module_name, path)
    return _classify(found, f"{module_name}:{path}", path.split(".")[-1], options)


def _import(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            hint = f" Leave .py out: {name.removesuffix('.py')}:…" if name.endswith(".py") else ""
            raise TargetError(
                f"there is no module {error.name} here: not in the working folder, not installed.{hint}   {_SHAPE}"
            ) from None
        raise _failed_import(name, error) from error
    except BaseException as error:
        raise _failed_import(name, error) from error


def _failed_import(name: str, error: BaseException) -> TargetError:
    said = "".join(traceback.format_exception_only(error)).strip().rsplit("\n", 1)[-1]
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "importlib" not in frame.filename]
    where = f", {frames[-1].filename}:{frames[-1].lineno}" if len(frames) > 1 else ""
    return TargetError(f"{name} cannot be imported: {said}{where}   {_SHAPE}")


def _find(module: Any, module_name: str, path: str) -> Any:
    found, so_far = module, module_name
    for part in path.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            import difflib

            near = difflib.get_close_matches(part, [name for name in dir(found) if not name.startswith("_")], n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            shape = "(TARGET, as module:function)" if part[:1].islower() else "(TARGET, as module:Class)"
            raise TargetError(f"{so_far} has no {part}.{hint}   {shape}") from None
        so_far = f"{so_far}.{part}"
    return found


def _classify(found: Any, name: str, class_name: str, options: Options) -> Target:
    if isinstance(found, type) and any(base.__name__ == "RecordProcessorBase" for base in found.__mro__):
        from streamheal.workers.child import kclpy

        if kclpy.is_kclpy(found, name):
            _check_makeable(found, name)
            facts = _facts(kclpy.KclpyProcessor, class_name, "batch", name, options)
            return Target(lambda: kclpy.KclpyProcessor(found()), "batch", facts, stating=True)
    if isinstance(found, type):
        mode = _mode_of_class(found, name)
        _check_makeable(found, name)
        return Target(found, mode, _facts(found, class_name, mode, name, options))
    if callable(getattr(found, "process_record", None)) or callable(getattr(found, "process_records", None)):
        raise TargetError(f"{name} is an instance: name its class {type(found).__name__} instead   {_SHAPE}")
    if not callable(found):
        raise TargetError(f"{name} is {_a(found)}, not a processor   {_SHAPE}")
    _check_takes_record(found, name)
    mode = "async" if _is_coroutine_function(found) else "plain"
    return Target(lambda: _FunctionProcessor(found), mode, _facts(found, class_name, mode, name, options))


def _mode_of_class(found: type, name: str) -> str:
    if callable(getattr(found, "process_records", None)):
        return "batch"
    process_record = getattr(found, "process_record", None)
    if not callable(process_record):
        raise TargetError(f"{name} has neither process_record nor process_records: it is not a processor   {_SHAPE}")
    if process_record is RecordProcessor.process_record:
        raise TargetError(f"{name} overrides neither process_record nor process_records   {_SHAPE}")
    return "async" if _is_coroutine_function(process_record) else "plain"


def _is_coroutine_function(found: Any) -> bool:
    return inspect.iscoroutinefunction(found) or inspect.iscoroutinefunction(type(found).__call__)


def _check_makeable(found: Any, name: str) -> None:
    if inspect.isabstract(found):
        missing = ", ".join(sorted(getattr(found, "__abstractmethods__", ())))
        raise TargetError(f"{name} is abstract: {missing} not defined   {_SHAPE}")
    if found.__init__ is object.__init__ and found.__new__ is object.__new__ and type(found) in (type, ABCMeta):
        return  # as most are; to ask for the signature of that takes a millisecond
    try:
        inspect.signature(found).bind()
    except TypeError as error:
        raise TargetError(f"{name} is made without arguments here, but: {error}   {_SHAPE}") from None
    except ValueError:
        pass  # some classes have no signature that can be asked for


def _check_takes_record(found: Any, name: str) -> None:
    try:
        inspect.signature(found).bind(None)
    except TypeError as error:
        raise TargetError(f"{name} is called with one record, but: {error}   {_SHAPE}") from None
    except ValueError:
        pass


def _a(found: Any) -> str:
    name = type(found).__name__
    return f"an {name}" if name[:1].lower() in "aeiou" else f"a {name}"


def _facts(found: Any, class_name: str, mode: str, name: str, options: Options) -> wire.Facts:
    overrides: dict[str, int | float | str] = {}
    for attribute, kinds, right in (
        ("ordering", str, "'shard', 'key' or 'none'"),
        ("concurrency", int, "a whole number from 1"),
        ("deadline_s", (int, float), "seconds, more than 0"),
        ("attempts_max", int, "a whole number from 1"),
    ):
        value: Any = getattr(found, attribute, None) if isinstance(found, type) else None
        if value is None:
            continue
        good = isinstance(value, kinds) and (value in _ORDERINGS if isinstance(value, str) else value > 0)
        if isinstance(value, bool) or not good:
            raise TargetError(f"{name}.{attribute} is {value!r}; it should be {right}   {_SHAPE}")
        overrides[attribute] = value
    for method in ("wants", "key", "mask", "mask_text"):
        # A coroutine is true, and its text an address: neither is an answer.
        if inspect.iscoroutinefunction(getattr(found, method, None)):
            raise TargetError(f"{name}.{method} is a coroutine function; it should be a plain one   {_SHAPE}")
    for attribute in ("poison", "throttled"):
        _check_classes(getattr(found, attribute, ()), f"{name}.{attribute}")
    concurrency = overrides.get("concurrency", options.concurrency or _DEFAULT_CONCURRENCY[mode])
    attempts_max = overrides.get("attempts_max")
    masks_texts = callable(getattr(found, "mask_text", None))
    ordering = str(overrides.get("ordering", options.ordering))
    return wire.Facts(
        class_name=class_name,
        mode=mode,
        ordering=ordering,
        concurrency=int(concurrency),
        deadline_s=float(overrides.get("deadline_s", options.deadline_s)),
        attempts_max=None if attempts_max is None else int(attempts_max),
        overrides=overrides,
        masks=masks_texts or callable(getattr(found, "mask", None)),
        masks_texts=masks_texts,
        modules=tuple(module for module in ("boto3", "botocore") if module in sys.modules),
        keys=ordering == "key" and callable(getattr(found, "key", None)),
    )


def _check_classes(value: Any, name: str) -> None:
    right = isinstance(value, tuple) and all(isinstance(one, type) and issubclass(one, BaseException) for one in value)
    if callable(value) and not isinstance(value, type):
        return  # a method of this name, of a class that does not know ours
    if not right:
        raise TargetError(f"{name} is {value!r}; it should be a tuple of exception classes   {_SHAPE}")


class _FunctionProcessor:
    """A function of one record, as a processor."""

    def __init__(self, function: Callable[[Record], Any]) -> None:
        self.process_record = function


class Handler:
    """One shard's processor, and what is asked of it.

    Attributes:
        call: `process_record`, or `process_records` in batch mode.
        wants, key: None where the processor has none: clean records then pay nothing for them.
    """

    def __init__(self, target: Target, shard: Shard) -> None:
        self.processor = processor = target.make()
        self.shard = shard
        call = processor.process_records if target.mode == "batch" else processor.process_record
        self.call: Callable[[Any], Any] = call
        self.wants: Callable[[Record], object] | None = _method(processor, "wants")
        self.key: Callable[[Record], object] | None = _method(processor, "key")
        self.mask: Callable[[Record], bytes] | None = _method(processor, "mask")
        self.mask_text: Callable[[str], str] | None = _method(processor, "mask_text")
        self.poison = _classes(processor, "poison")
        self.throttled = _classes(processor, "throttled")

    def initialize(self) -> Any:
        """What `initialize` returned: something to await, if it is `async`."""
        initialize = _method(self.processor, "initialize")
        return initialize(self.shard) if initialize else None

    def handle(self, record: Record) -> bool:
        """Run one record to its end. True: the processor did not want it."""
        if self.wants is not None and not self.wants(record):
            return True
        if (returned := self.call(record)) is not None:
            refuse_awaitable(returned)
        return False

    def hook(self, name: str) -> Any:
        hook = _method(self.processor, name)
        return hook() if hook else None

    def masked(self, record: Record) -> bytes | None:
        """The payload as people may see it. A mask that raises shows nothing."""
        if self.mask is None:
            return None
        try:
            return bytes(self.mask(record))
        except BaseException as error:
            print(f"mask raised {type_name(type(error))}: the payload is not shown", file=sys.stderr)
            return b""


def refuse_awaitable(returned: object) -> None:
    """A plain function that returns something to await has not done its work, and would never be asked to."""
    if inspect.isawaitable(returned):
        if inspect.iscoroutine(returned):
            returned.close()
        raise TypeError("process_record returned something to await: define it with `async def`")


def _method(processor: Any, name: str) -> Callable[..., Any] | None:
    found = getattr(processor, name, None)
    return found if callable(found) else None


def _classes(processor: Any, name: str) -> tuple[type, ...]:
    found: Sequence[type] = getattr(processor, name, ())
    return tuple(found) if isinstance(found, tuple) else ()
