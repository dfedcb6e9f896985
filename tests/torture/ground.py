"""Where a round takes place: a stream with what is in it, a quarantine, a state, and the weather over them."""

from __future__ import annotations

import random
import signal
import sqlite3
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.torture import keeping
from tests.torture.audit import Truth
from tests.torture.book import At
from tests.torture.plan import Blow, Entry
from tests.torture.weather import WAYS, Weather

APPLICATION = "tortured"


class Ground:
    """On the embedded AWS and in a folder. `url` is that AWS, seen through the weather."""

    def __init__(self, aws: Any, folder: Path, name: str, *, quarantine: str, state: str, weather: Weather) -> None:
        self.name, self.folder = name, folder
        self.url = weather.url
        self._aws, self._weather = aws, weather
        self._quarantine, self._state = quarantine, state
        self._kept = folder / "kept"

    @property
    def quarantine(self) -> str:
        places = {"s3": f"s3://{self.name}/aside", "kinesis": f"kinesis://{self.name}-aside"}
        return places.get(self._quarantine, str(self.folder / "aside"))

    @property
    def state(self) -> str:
        return "sqlite:state.db" if self._state == "sqlite" else f"dynamodb:{self.name}"

    def make(self, shards: int) -> None:
        kinesis = self._aws.client("kinesis")
        kinesis.create_stream(StreamName=self.name, ShardCount=shards)
        if self._quarantine == "kinesis":
            kinesis.create_stream(StreamName=f"{self.name}-aside", ShardCount=1)
        if self._quarantine == "s3":
            self._aws.client("s3").create_bucket(Bucket=self.name)
        self._kept.mkdir()
        (self.folder / "aside").symlink_to("kept")

    def put(self, entries: Sequence[Entry]) -> list[Truth]:
        found = []
        for first in range(0, len(entries), 500):
            some = entries[first : first + 500]
            raw = [{"Data": entry.data(), "PartitionKey": entry.key} for entry in some]
            answer = self._aws.client("kinesis").put_records(StreamName=self.name, Records=raw)
            for entry, given in zip(some, answer["Records"], strict=True):
                for nth, kind in enumerate(entry.kinds):
                    at = int(given["SequenceNumber"]), nth
                    found.append(Truth(given["ShardId"], at, entry.key, kind, Entry(entry.key, (kind,)).data()))
        return found

    # -- what is kept ------------------------------------------------------------------------

    def asides(self) -> list[keeping.Aside]:
        match self._quarantine:
            case "folder":
                return list(keeping.in_folder(self._kept))
            case "s3":
                return list(keeping.in_bucket(self._aws.client("s3"), self.name))
        return list(keeping.in_stream(self._aws.client("kinesis"), f"{self.name}-aside"))

    def checkpoints(self) -> dict[str, At]:
        if self._state == "sqlite":
            return keeping.sqlite_checkpoints(self.folder / "state.db", APPLICATION)
        return keeping.table_checkpoints(self._aws.client("dynamodb"), self.name, APPLICATION)

    def forget_owner(self) -> None:
        if self._state == "dynamodb":
            keeping.forget_owner(self._aws.client("dynamodb"), self.name, APPLICATION)

    def clean(self) -> None:
        """The embedded AWS keeps everything in memory, and has many rounds to come."""
        kinesis = self._aws.client("kinesis")
        kinesis.delete_stream(StreamName=self.name, EnforceConsumerDeletion=True)
        if self._quarantine == "kinesis":
            kinesis.delete_stream(StreamName=f"{self.name}-aside")
        if self._state == "dynamodb":
            dynamodb = self._aws.client("dynamodb")
            with suppress(dynamodb.exceptions.ResourceNotFoundException):
                dynamodb.delete_table(TableName=self.name)

    # -- trouble -----------------------------------------------------------------------------

    def trouble(self, blow: Blow, dice: random.Random) -> str:
        """Returns what it is."""
        match blow.whom:
            case "sqlite":
                threading.Thread(target=self._lock, args=(blow.for_s,), daemon=True).start()
                return "sqlite locked"
            case "folder":
                self._move_away(blow.for_s)
                return "folder away"
        service, way = {"source": "kinesis"}.get(blow.whom, blow.whom), dice.choice(WAYS)
        self._weather.trouble(service, way, dice.choice([0.2, 0.6, 1.0]), blow.for_s)
        return f"{service} {way}"

    def _lock(self, for_s: float) -> None:
        path = self.folder / "state.db"
        with suppress(sqlite3.Error):
            if path.exists():
                connection = sqlite3.connect(path, isolation_level=None)
                connection.execute("BEGIN IMMEDIATE")
                signal.sigtimedwait([], for_s)
                connection.close()

    def _move_away(self, for_s: float) -> None:
        link, new = self.folder / "aside", self.folder / "new"
        for target, wait_s in (("nowhere/at/all", for_s), ("kept", 0.0)):
            new.symlink_to(target)
            new.replace(link)
            signal.sigtimedwait([], wait_s)
