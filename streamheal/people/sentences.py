"""What happened, said in a sentence. The log keeps the event; this is for who is watching."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from streamheal.people.plain import count, duration, one_line

Fields = Mapping[str, Any]

_ID_LENGTH = 8


def sentence(name: str, fields: Fields, times: int = 1) -> str | None:
    """One line on an event of the runtime; None for those nobody need watch.

    Args:
        times: So many events that `key` finds alike are told at once; `fields` are the last one's.
    """
    tell = _TELLERS.get(name)
    said = None if tell is None else tell(fields, times)
    return None if said is None else one_line(said, 300)


def key(name: str, fields: Fields) -> tuple[object, ...] | None:
    """Equal for events that are better told together; None: this one is told by itself."""
    if name in ("record_quarantined", "record_stayed", "record_cleared"):
        return name, fields.get("shard_id"), fields.get("fingerprint")
    return None


def _record_quarantined(fields: Fields, times: int) -> str:
    title = fields.get("title") or fields.get("reason") or "no reason given"
    more = f" and {times - 1:,} more" if times > 1 else ""
    return f"{_name(fields)}{more} set aside: {title}"


def _record_stayed(fields: Fields, times: int) -> str:
    more = f" and {times - 1:,} more" if times > 1 else ""
    return f"{_name(fields)}{more} failed again, and stays: {fields.get('title') or fields.get('reason')}"


def _record_cleared(fields: Fields, times: int) -> str:
    if times > 1:
        return f"{times:,} suspects ran alone, and are done"
    return f"{_name(fields)} was suspect, ran alone, and is done"


def _worker_died(fields: Fields, times: int) -> str | None:
    if fields.get("why") == "by_us":
        return None  # stopped because its shard was taken away
    worker, cause = fields.get("worker") or "a worker", fields.get("cause")
    how = _how_it_died(fields)
    if cause == "cell":
        return f"{worker} {how}, with one record in it, alone"
    running = fields.get("running")
    if not isinstance(running, int):
        return f"{worker} {how}"
    if not running:
        return f"{worker} {how} while no record ran"
    alone = "; each is tried alone" if running > 1 else "; it is tried alone"
    if running > 1 and fields.get("suspects") == 1:
        alone = "; the one that was not waiting is tried alone"
    return f"{worker} {how} while {count(running, 'record')} ran{alone}"


def _how_it_died(fields: Fields) -> str:
    if fields.get("cause") == "deadline" or fields.get("why") == "overran":
        return "was stopped: a record passed its deadline"
    if fields.get("signal"):
        return f"died ({fields['signal']})"
    if fields.get("exit_code") is not None:
        return f"exited with {fields['exit_code']}"
    return "died"


def _shard_paused(fields: Fields, times: int) -> str:
    why = f": {fields['why']}" if fields.get("why") else ""
    return f"paused{why}; it probes until something succeeds{_last(fields)}"


def _shard_blocked(fields: Fields, times: int) -> str:
    for_s, attempts = fields.get("for_s"), fields.get("attempts")
    since = f" for {duration(for_s)}" if isinstance(for_s, int | float) else ""
    tried = f", after {count(attempts, 'try', 'tries')}" if attempts else ""
    who = "all of it" if not fields.get("id") else _name(fields)
    return f"{who} waits{since}{tried} for {fields.get('waits_for')}{_last(fields)}"


def _shard_unblocked(fields: Fields, times: int) -> str:
    after_s = fields.get("after_s")
    return "moves on" + (f" after {duration(after_s)}" if isinstance(after_s, int | float) else "")


def _quarantine_unavailable(fields: Fields, times: int) -> str:
    records = fields.get("records")
    waiting = f"; {count(records, 'record')} wait" if isinstance(records, int) else ""
    waiting = waiting.replace("1 record wait", "1 record waits")
    return f"the quarantine does not answer{_because(fields)}{waiting}, nothing is lost"


def _because(fields: Fields) -> str:
    return f" ({fields['error']})" if fields.get("error") else ""


def _initialize_failed(fields: Fields, times: int) -> str:
    again_s = fields.get("again_in_s")
    again = f"; again in {duration(again_s)}" if isinstance(again_s, int | float) else ""
    return f"the processor's initialize failed{_because(fields)}{again}"


def _human_called(fields: Fields, times: int) -> str:
    return f"needs a human: {fields.get('why') or 'it cannot go on by itself'}{_last(fields)}"


def _last(fields: Fields) -> str:
    return f" (last: {fields['last_failure']})" if fields.get("last_failure") else ""


def _name(fields: Fields) -> str:
    """What the record is called on the command line. A position of 56 digits says nothing to anybody."""
    return str(fields["id"])[:_ID_LENGTH] if fields.get("id") else "a record"


_TELLERS: dict[str, Callable[[Fields, int], str | None]] = {
    "human_called": _human_called,
    "hook_failed": lambda fields, times: f"the processor's {fields.get('hook', 'hook')} failed{_because(fields)}",
    "initialize_failed": _initialize_failed,
    "quarantine_unavailable": _quarantine_unavailable,
    "record_cleared": _record_cleared,
    "record_quarantined": _record_quarantined,
    "record_stayed": _record_stayed,
    "shard_at_full_speed": lambda fields, times: "past where hosts have died: at full speed again",
    "shard_blocked": _shard_blocked,
    "shard_cautious": lambda fields, times: f"cautious: {fields.get('why') or 'hosts have died here'}",
    "shard_unblocked": _shard_unblocked,
    "shard_complete": lambda fields, times: "complete: every record of it is settled",
    "shard_ended": lambda fields, times: "read to its end",
    "shard_paused": _shard_paused,
    "shard_resumed": lambda fields, times: "goes on: something succeeded",
    "shard_stopped": lambda fields, times: "stopped; its checkpoint stays where it is",
    "state_unavailable": lambda fields, times: f"the state does not answer{_because(fields)}; trying again",
    "checkpoint_failed": lambda fields, times: f"a checkpoint was not kept{_because(fields)}; trying again",
    "stop_requested": lambda fields, times: (
        f"asked to stop ({fields.get('signal', 'a signal')}): finishing what is open"
    ),
    "worker_died": _worker_died,
}
