"""What happened, said in a sentence. The log keeps the event; this is for who is watching."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from streamheal.people.plain import count, duration, one_line

Fields = Mapping[str, Any]

_ID_LENGTH = 8


def sentence(name: str, fields: Fields) -> str | None:
    """One line on an event of the runtime; None for those nobody need watch."""
    tell = _TELLERS.get(name)
    return None if tell is None else one_line(tell(fields), 300)


def _record_quarantined(fields: Fields) -> str:
    title = fields.get("title") or fields.get("reason") or "no reason given"
    return f"{_name(fields)} set aside: {title}"


def _record_cleared(fields: Fields) -> str:
    return f"{_name(fields)} was suspect, ran alone, and is done"


def _worker_died(fields: Fields) -> str:
    running = fields.get("running")
    while_running = ""
    if isinstance(running, int):
        alone = "; each is tried alone" if running > 1 else "; it is tried alone"
        while_running = f" while {count(running, 'record')} ran{alone}" if running else " while no record ran"
    match fields.get("cause"):
        case "signal":
            how = f"was killed ({fields['signal']})" if fields.get("signal") else "was killed by a signal"
        case "exit":
            how = f"exited with {fields['exit_code']}" if fields.get("exit_code") is not None else "exited"
        case "deadline":
            how = "was stopped: a record passed its deadline"
        case "cell":
            return f"{_name(fields)} killed its process alone"
        case other:
            how = f"died ({other})" if other else "died"
    return f"{fields.get('worker') or 'a worker'} {how}{while_running}"


def _shard_paused(fields: Fields) -> str:
    why = f": {fields['why']}" if fields.get("why") else ""
    return f"paused{why}; it probes until something succeeds"


def _quarantine_unavailable(fields: Fields) -> str:
    records = fields.get("records")
    waiting = f"; {count(records, 'record')} wait" if isinstance(records, int) else ""
    waiting = waiting.replace("1 record wait", "1 record waits")
    return f"the quarantine does not answer{_because(fields)}{waiting}, nothing is lost"


def _because(fields: Fields) -> str:
    return f" ({fields['error']})" if fields.get("error") else ""


def _initialize_failed(fields: Fields) -> str:
    again_s = fields.get("again_in_s")
    again = f"; again in {duration(again_s)}" if isinstance(again_s, int | float) else ""
    return f"the processor's initialize failed{_because(fields)}{again}"


def _human_called(fields: Fields) -> str:
    return f"needs a human: {fields.get('why') or 'it cannot go on by itself'}"


def _name(fields: Fields) -> str:
    """What the record is called on the command line; else its position, by its end."""
    if fields.get("id"):
        return str(fields["id"])[:_ID_LENGTH]
    sequence_number = str(fields.get("sequence_number", ""))
    return f"record …{sequence_number[-4:]}" if sequence_number else "a record"


_TELLERS: dict[str, Callable[[Fields], str]] = {
    "human_called": _human_called,
    "hook_failed": lambda fields: f"the processor's {fields.get('hook', 'hook')} failed{_because(fields)}",
    "initialize_failed": _initialize_failed,
    "quarantine_unavailable": _quarantine_unavailable,
    "record_cleared": _record_cleared,
    "record_quarantined": _record_quarantined,
    "shard_complete": lambda fields: "complete: every record of it is settled",
    "shard_ended": lambda fields: "read to its end",
    "shard_paused": _shard_paused,
    "shard_resumed": lambda fields: "goes on: something succeeded",
    "shard_stopped": lambda fields: "stopped; its checkpoint stays where it is",
    "state_unavailable": lambda fields: f"the state does not answer{_because(fields)}; trying again",
    "checkpoint_failed": lambda fields: f"a checkpoint was not kept{_because(fields)}; trying again",
    "stop_requested": lambda fields: f"asked to stop ({fields.get('signal', 'a signal')}): finishing what is open",
    "worker_died": _worker_died,
}
