"""What became of the records that `heal` was given."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from streamheal.attempts import Attempt
from streamheal.quarantine.envelope import Envelope
from streamheal.records import Record


@dataclass(frozen=True)
class Quarantined:
    """A record that was set aside, and why.

    Attributes:
        record: As it was given to `heal`, the very object.
        envelope: What would be in the quarantine, with the verdict and every try.
        exception: What its last try raised; None where `process_records` returned it as failed.
    """

    record: Record
    envelope: Envelope
    exception: BaseException | None = None

    @property
    def reason(self) -> str:
        """`exception`, `decode` or `rejected`; hangs and crashes are not played here."""
        return self.envelope.reason

    @property
    def title(self) -> str:
        return self.envelope.title

    @property
    def verdict(self) -> str:
        return self.envelope.verdict

    @property
    def fingerprint(self) -> str:
        return self.envelope.fingerprint

    @property
    def attempts(self) -> list[Attempt]:
        return self.envelope.attempts

    @property
    def exception_type(self) -> str | None:
        """Of the last try, as Python prints it: `KeyError`, `botocore.exceptions.ClientError`."""
        return self.attempts[-1].exception_type

    @property
    def message(self) -> str | None:
        return self.attempts[-1].message

    def __repr__(self) -> str:
        return f"<{self.record.data[:60]!r} {self.reason}: {self.title}>"


@dataclass(repr=False)
class Report:
    """Every record is in exactly one of the lists, each in the order in which they were given.

    Attributes:
        done: Handled, at whatever try.
        quarantined: Set aside, with the reason.
        filtered: `wants` said no.
        undecided: Still failing at the end, and nobody to tell whether it is they or the world:
            what a real run would go on trying, and call a human about.
        needs_human: Why a human was called, where records are undecided.
    """

    done: list[Record] = field(default_factory=list)
    quarantined: list[Quarantined] = field(default_factory=list)
    filtered: list[Record] = field(default_factory=list)
    undecided: list[Record] = field(default_factory=list)
    needs_human: str | None = None

    def __repr__(self) -> str:
        """Short enough for the line that a failed assertion prints."""
        return f"<Report {'; '.join(self._said())}>"

    def _said(self) -> Iterator[str]:
        yield f"{len(self.done)} done"
        if self.quarantined:
            shown = ", ".join(f"{one.reason}: {one.title}" for one in self.quarantined[:3])
            more = len(self.quarantined) - 3
            yield f"{len(self.quarantined)} quarantined ({shown}{f', and {more} more' if more > 0 else ''})"
        if self.filtered:
            yield f"{len(self.filtered)} filtered"
        if self.undecided:
            yield f"{len(self.undecided)} undecided ({self.needs_human or 'still being tried'})"
