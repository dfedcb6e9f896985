"""Where an envelope lies in a folder or a bucket.

    PREFIX/application=shop-orders/stream=orders/date=2026-11-24/7f3k9x2mabcdefgh.json

Athena, DuckDB and Spark read such a tree as one table with these three columns. The date is
that of quarantining, in UTC.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, datetime, timedelta
from typing import NamedTuple
from urllib.parse import quote, unquote

from streamheal.quarantine.base import Selection
from streamheal.quarantine.envelope import Envelope

SUFFIX = ".json"
ID_CHARS = 16

# Arrival is by AWS's clock and quarantining by ours: so far apart they may be.
_CLOCKS_APART = timedelta(hours=1)


class Partition(NamedTuple):
    """The envelopes of one application and stream and day, `2026-11-24`."""

    application: str
    stream: str
    date: str

    @property
    def path(self) -> str:
        return f"application={quote(self.application, safe='')}/stream={quote(self.stream, safe='')}/date={self.date}"

    @classmethod
    def of(cls, envelope: Envelope) -> Partition:
        return cls(envelope.application, envelope.stream, envelope.quarantined_at[:10])

    def may_hold(self, selection: Selection) -> bool:
        return (
            selection.application in (None, self.application)
            and selection.stream in (None, self.stream)
            and (selection.since is None or self.date >= selection.since[:10])
            and (selection.until is None or self.date <= selection.until[:10])
        )


def value_of(name: str, directory: str) -> str | None:
    """`orders` of `stream=orders`; None where the directory is not of this name."""
    column, _, value = directory.rpartition("/")[2].partition("=")
    return unquote(value) if column == name and value else None


def id_of(file_name: str) -> str | None:
    """The id of an envelope's file; None for whatever else lies there."""
    id = file_name.rpartition("/")[2].removesuffix(SUFFIX)
    return id if file_name.endswith(SUFFIX) and id.isalnum() else None


def earlier_dates(envelope: Envelope, known: Iterable[str]) -> list[str]:
    """Of the days known to hold envelopes, those before its own on which this one may have been
    stored already, newest first: none is older than the record itself."""
    arrived = datetime.fromisoformat(envelope.approximate_arrival_timestamp) - _CLOCKS_APART
    first, today = arrived.date().isoformat(), envelope.quarantined_at[:10]
    return sorted((day for day in known if first <= day < today), reverse=True)


def dates(directories: Iterable[str]) -> list[str]:
    """The days that these directories are of, as `date=2026-11-24` is."""
    return [day for name in directories if (day := value_of("date", name)) is not None and _is_date(day)]


def _is_date(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False
