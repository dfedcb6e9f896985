"""What truly happened to each record, and what must never happen.

Nothing here looks into the core: it is told what runs, what takes effect and what is decided.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from streamheal.core.messages import Verdict
from tests.simulation.generate import GUILTY, INNOCENT, Down, Rec

if TYPE_CHECKING:
    from tests.simulation.side import Side
    from tests.simulation.world import World


class Violation(Exception):
    """The core broke a promise."""


@dataclass(eq=False)
class Track:
    """One record's true story. What stands below `fate` is of this life of the host."""

    rec: Rec
    position: int
    prev: Track | None = field(default=None, repr=False)  # the record before it in its lane
    ever: str = ""  # the first thing that settled it: effect, filtered or stored
    times: int = 0
    fate: str = ""
    runs: int = 0
    excused: int = 0  # failures, and deaths of processes it ran in
    kills: int = 0
    shared: bool = False  # it ran in a worker that died
    own: bool = False  # its last failure was its own, and not an outage's
    hit_by: set[Down] = field(default_factory=set, repr=False)
    failed: list[tuple[str, str]] = field(default_factory=list, repr=False)  # cause, likeness of each counted try
    first_failed_at: float = float("inf")
    running: bool = False

    def new_life(self) -> None:
        self.fate, self.runs, self.excused, self.kills = "", 0, 0, 0
        self.shared = self.running = self.own = False
        self.hit_by, self.failed, self.first_failed_at = set(), [], float("inf")

    @property
    def name(self) -> str:
        return f"record {self.position} ({self.rec.kind}, {self.rec.key})"


class Oracle:
    def __init__(self, world: World) -> None:
        self._world = world
        self._spec = world.spec
        self.seen: Counter[str] = Counter()

    # -- running -----------------------------------------------------------------------

    def starts(self, side: Side, track: Track, in_lane: bool) -> None:
        if track.running:
            raise Violation(f"{track.name} runs twice at once")
        if track.fate == "stored":
            raise Violation(f"{track.name} runs after it was set aside")
        before = track.prev
        if before is not None and before.position > side.began_after and not before.fate:
            raise Violation(f"{track.name} runs while {before.name} is open")
        if in_lane and track.shared:
            raise Violation(f"{track.name} is in a worker again after a death it shared")
        track.running = True
        track.runs += 1
        if track.runs > 1 + track.excused:
            raise Violation(f"{track.name} ran {track.runs} times, excused {track.excused}")

    def takes_effect(self, side: Side, track: Track) -> None:
        track.fate = track.fate or "effect"
        if track.ever == "effect":
            return
        if track.prev is not None and not track.prev.ever:
            raise Violation(f"{track.name} takes effect before {track.prev.name}")
        track.ever = "effect"

    def killed(self, track: Track) -> None:
        track.kills += 1
        if track.rec.kind == "crash" and track.kills > 1:
            raise Violation(f"{track.name} killed {track.kills} workers")

    # -- deciding ----------------------------------------------------------------------

    def judged(self, side: Side, track: Track, verdict: Verdict) -> None:
        self.seen[verdict.name] += 1
        if (verdict is Verdict.STAYS) != (self._spec.policy.replaying and verdict is not Verdict.SAID_SO):
            raise Violation(f"{track.name}: {verdict.name}, replaying: {self._spec.policy.replaying}")
        if track.fate == "stored" or track.running:
            raise Violation(f"{track.name} is set aside, but it {track.fate or 'runs'}")
        if verdict is Verdict.STAYS:
            return
        kind = track.rec.kind
        if kind in GUILTY and (track.own or kind not in ("flaky", "perhaps")):
            return
        if not self._excusable(side, track, verdict):
            raise Violation(f"innocent blamed: {track.name}, {verdict.name}")
        self.seen["innocents"] += 1

    def _excusable(self, side: Side, track: Track, verdict: Verdict) -> bool:
        """What nobody could have known (docs/judging.md, "What cannot be promised")."""
        now = self._world.now
        begun = [down for down in self._spec.outages if down.shard in (None, side.number) and down.since <= now]
        if verdict is Verdict.NOBODY_ELSE:
            side.nobody_else += 1
            return side.nobody_else <= len(begun)
        # Two outages with one fingerprint, and a success between them.
        return verdict is Verdict.LEFT_OVER and len(track.hit_by) > 1

    def checkpointed(self, side: Side, position: int) -> None:
        for track in side.tracks[side.checked :]:
            if track.position > position:
                break
            if not track.ever:
                raise Violation(f"checkpoint {position} passes {track.name}")
            side.checked += 1

    def stopped(self, side: Side) -> None:
        """The next owner starts exactly at the first open record."""
        first = next((at for at, track in side.at.items() if track.position == side.checkpoint + 1), None)
        if first is not None and side.knows_settled(first):
            raise Violation(f"stopped at {side.checkpoint}, but {side.at[first].name} is settled")

    def stored(self, side: Side, track: Track) -> None:
        before = track.prev
        if before is not None and before.position > side.began_after and not before.fate:
            raise Violation(f"{track.name} is stored before {before.name}")

    def complete(self, side: Side) -> None:
        for track in side.tracks:
            if not track.ever:
                raise Violation(f"complete, but {track.name} is open")
        if side.tracks and side.checkpoint != side.tracks[-1].position:
            raise Violation(f"complete, but the checkpoint is {side.checkpoint}")

    # -- the books ---------------------------------------------------------------------

    def audit(self, side: Side) -> None:
        ledger = side.core.ledger
        if ledger.read != ledger.done + ledger.quarantined + ledger.filtered + ledger.in_flight:
            raise Violation("read is not done + quarantined + filtered + in flight")
        if ledger.in_flight != sum(span.left for span in ledger.spans.values()):
            raise Violation("in flight differs from what is left of the spans")
        if ledger.size < 0 or (not ledger.spans and (ledger.size or ledger.unreported or ledger.uncounted)):
            raise Violation("nothing is open, but sizes or counts are left")

    # -- the end -----------------------------------------------------------------------

    def at_the_end_of_time(self, side: Side) -> None:
        """Only what needs a human may be left: bad records, of which nobody can tell."""
        core = side.core
        left = [side.at[at] for at in core.undecided]
        story = f"shard {side.number} at {self._world.now:.0f} s, step {self._world.steps}: " + (
            f"{core.needs_human=} {core.paused=} left {[track.name for track in left]}"
        )
        if self._world.now - side.born_at < 1_000:
            return  # nobody can have decided anything yet
        if self._world.now < 8_000 or not core.needs_human or not left:
            raise Violation(f"stuck: {story}")
        if any(track.rec.kind in INNOCENT for track in left):
            raise Violation(f"an innocent is left: {story}")
        alone = len(self._world.unfinished()) == 1
        if alone and not core.doubt and len(left) == 1 and not core.ledger.unreported:
            raise Violation(f"the only one undecided is left: {story}")
        if alone and not core.ledger.unreported:
            self._left_over(side, left, story)
        self.seen["needs a human"] += 1

    def _left_over(self, side: Side, left: list[Track], story: str) -> None:
        unfollowed = Counter(track.failed[-1] for track in left if not self._followed(side, track))
        if max(unfollowed.values(), default=0) > 1:
            return
        for track in left:
            if self._followed(side, track) and len(set(track.failed)) == 1 and track.rec.kind != "perhaps":
                raise Violation(f"{track.name} failed in one way while others succeeded, and is left: {story}")

    @staticmethod
    def _followed(side: Side, track: Track) -> bool:
        return side.witnessed_since >= track.first_failed_at
