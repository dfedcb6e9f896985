"""What truly happened to each record, and what must never happen.

Nothing here looks into the core: it is told what runs, what takes effect and what is decided.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NoReturn

from streamheal.core.healer import Healer
from streamheal.core.messages import Verdict
from tests.simulation.generate import GUILTY, INNOCENT, Down, Rec

if TYPE_CHECKING:
    from streamheal.runtime.figures import ShardFigures
    from streamheal.runtime.shard import ShardRun
    from tests.simulation.world import World


class Violation(Exception):
    """A promise was broken."""


class Track:
    """One record's true story. What `new_life` sets is of this reading of its shard.

    Attributes:
        prev: The record before it in its lane.
        ever: The first thing that settled it, in any life: effect, filtered or stored.
        excused: Failures, and deaths of processes it ran in: each is worth one more run.
        shared: It ran in a worker that died.
        alone: Its last run was, and in a fresh process.
        own: Its last failure was its own, and not an outage's.
        unclear: It was hit by what nobody can tell from poison.
        stood: It ran in a worker that died, while another's coroutine was being resumed there.
        alone_when_died: Lives of hosts that ended while it was durably marked alone, in all readings;
        by_chance: of those, the ones that did not end of it.
        set_aside: Readings in which it was stored.
        failed: Cause and likeness of each counted try.
        forgot_at: When the host heard that what it had done was lost with the memory of its process.
        sent_at: When it was last sent to run alone.
    """

    __slots__ = (
        "alone", "alone_when_died", "by_chance", "ever", "excused", "failed", "fate", "first_failed_at", "forgot_at",
        "hit_by", "judged", "kills", "own", "position", "prev", "rec", "running", "runs", "sent_at", "set_aside",
        "shared", "stood", "stream", "times", "unclear",
    )  # fmt: skip

    def __init__(self, stream: Stream, rec: Rec, position: int, prev: Track | None) -> None:
        self.stream, self.rec, self.position, self.prev = stream, rec, position, prev
        self.ever, self.times = "", rec.times
        self.unclear = False
        self.alone_when_died = self.by_chance = self.set_aside = 0
        self.new_life()

    def new_life(self) -> None:
        self.fate, self.runs, self.excused, self.kills = "", 0, 0, 0
        self.alone = self.shared = self.stood = self.running = self.own = self.judged = False
        self.forgot_at = self.sent_at = float("-inf")
        self.hit_by: set[Down] = set()
        self.failed: list[tuple[str, str]] = []
        self.first_failed_at = float("inf")

    @property
    def name(self) -> str:
        return f"record {self.position} ({self.rec.kind}, {self.rec.key})"


class Stream:
    """One shard of the stream: its records, and all of it that is durable.

    Attributes:
        given: How many records it has from the beginning.
        checkpoint: Position of the last record that is durably passed.
        passed_at: When that was.
        closed: Nothing will be added to it any more.
        finished: Complete.
        run: The runtime's present run of it, if there is one.
        suspects: Positions that were marked when hosts died, as this run found them.
        explained: The life before this one has marked some.
        abandoned: The host was to end, and could wait for this run no longer.
        lives_here: How often it was begun from its checkpoint, this time included.
    """

    def __init__(self, world: World, number: int, records: tuple[Rec, ...], parent: Stream | None) -> None:
        self.number, self.shard_id, self.parent = number, f"shard-{number}", parent
        self.tracks: list[Track] = []
        self.checkpoint = self.began_after = self._checked = 0
        self.finished = self.has_children = self.closed = False
        self.nobody_else: set[int] = set()  # innocents, by position, of whom nobody was left to ask
        self.suspects: set[int] = set()
        self.explained = self.abandoned = False
        self.lives_here = 0
        self.deaths = 0
        self.born_at = self.passed_at = 0.0
        self.witnessed_since = float("-inf")
        self.run: ShardRun | None = None
        self._ordering = world.spec.ordering
        self._last_of: dict[str, Track] = {}
        if parent is not None:
            parent.has_children = True
            self._last_of.update(parent._last_of)
        self.given = len(records)
        for rec in records:
            self.append(rec)

    def append(self, rec: Rec) -> None:
        position = len(self.tracks) + 1
        lane = {"key": rec.key, "shard": "", "none": f"{self.number}/{position}"}[self._ordering]
        track = self._last_of[lane] = Track(self, rec, position, self._last_of.get(lane))
        self.tracks.append(track)

    def begins(self, now: float) -> None:
        """It is read anew, knowing only what is durable."""
        self.lives_here = self.lives_here + 1 if self.began_after == self.checkpoint else 1
        self.born_at, self.began_after = now, self.checkpoint
        self.witnessed_since = float("-inf")
        self.run, self.abandoned = None, False
        for track in self.tracks:
            track.new_life()

    @property
    def healer(self) -> Healer | None:
        return None if self.run is None else self.run.healer

    def unchecked(self, position: int) -> Track | None:
        """The first record up to this position that nothing has settled."""
        while self._checked < min(position, len(self.tracks)):
            if not self.tracks[self._checked].ever:
                return self.tracks[self._checked]
            self._checked += 1
        return None


class Oracle:
    def __init__(self, world: World) -> None:
        self._world = world
        self._spec = world.spec
        self.seen: Counter[str] = Counter()

    def fail(self, why: str) -> NoReturn:
        self._world.violation = Violation(why)
        self._world.ring()
        raise self._world.violation

    # -- running -----------------------------------------------------------------------

    def starts(self, stream: Stream, track: Track, *, in_lane: bool, asked: bool, used: bool = False) -> None:
        """`used`: in a cell in which others have run."""
        self._world.hosts.starts(track, asked=asked)
        if track.running:
            self.fail(f"{track.name} runs twice at once")
        if track.fate == "stored":
            self.fail(f"{track.name} runs after it was set aside")
        self._in_turn(track, "runs", in_lane)
        if in_lane and track.shared:
            self.fail(f"{track.name} is in a worker again after a death it shared")
        if used and track.failed:
            self.fail(f"{track.name} has failed before, and runs where others have")
        self.seen["runs in used cells"] += used
        track.running, track.alone = True, not (in_lane or used)
        track.runs += 1
        if track.runs > 1 + track.excused:
            self.fail(f"{track.name} ran {track.runs} times, excused {track.excused}")

    def _in_turn(self, track: Track, does: str, in_lane: bool = False) -> None:
        before = track.prev
        if before is None or (before.stream is track.stream and before.position <= track.stream.began_after):
            return
        if before.fate if before.stream is track.stream else before.ever:
            return
        if in_lane or not self._on_its_way(track, before):
            self.fail(f"{track.name} {does} while {before.name} is open")

    @staticmethod
    def _on_its_way(track: Track, before: Track) -> bool:
        """It was sent to run alone after the one before it in its lane, and before that was lost again."""
        return track.stream.born_at <= track.sent_at <= before.forgot_at

    def takes_effect(self, track: Track) -> None:
        track.fate = "effect" if track.fate in ("", "kept") else track.fate
        if track.ever == "effect":
            return
        before = track.prev
        settled = before is None or before.ever or before.fate in ("kept", "lost")
        if before is not None and not settled and not self._on_its_way(track, before):
            self.fail(f"{track.name} takes effect before {track.prev.name}")
        track.ever = "effect"

    # A processor that states by itself how far it is done may keep in its memory what it returned from. What follows
    # in another process, alone, may come first then.

    def keeps(self, track: Track) -> None:
        track.fate = track.fate or "kept"

    def forgets(self, track: Track) -> None:
        """Its memory is gone, of which nobody has heard, and the record must run again."""
        track.fate, track.forgot_at = "", float("inf")
        track.excused += 1

    def loses(self, track: Track) -> None:
        """It does not run again in this reading of its shard, so that no checkpoint may pass it."""
        track.fate = track.fate or "lost"

    def killed(self, track: Track) -> None:
        track.kills += 1
        if track.rec.kind == "crash" and track.kills > 1:
            self.fail(f"{track.name} killed {track.kills} workers")

    # -- deciding ----------------------------------------------------------------------

    def judged(self, track: Track, verdict: Verdict) -> None:
        if track.judged:
            return
        track.judged = True
        self.seen[verdict.name] += 1
        if (verdict is Verdict.STAYS) != (self._spec.policy.replaying and verdict is not Verdict.SAID_SO):
            self.fail(f"{track.name}: {verdict.name}, replaying: {self._spec.policy.replaying}")
        if track.fate == "stored" or track.running:
            self.fail(f"{track.name} is set aside, but it {track.fate or 'runs'}")
        if verdict is Verdict.STAYS:
            return
        self._as_the_rules_say(track, verdict)
        kind = track.rec.kind
        if kind in GUILTY and (track.own or kind not in ("flaky", "perhaps")):
            return
        excuse = self._excuse(track, verdict)
        if not excuse:
            self.fail(f"innocent blamed: {track.name}, {verdict.name}")
        self.seen[f"innocent: {verdict.name}, {excuse}"] += 1

    def _as_the_rules_say(self, track: Track, verdict: Verdict) -> None:
        """What docs/judging.md asks for, whoever it is."""
        policy = self._spec.policy
        spent = track.alone_when_died >= policy.crashes_alone_min
        if verdict is Verdict.KILLED_HOSTS:
            if not spent:
                self.fail(f"{track.name}: {verdict.name}, but it was alone in {track.alone_when_died} that died")
            if not any(
                other.fate in ("effect", "kept", "lost") or other.forgot_at > 0
                for other in track.stream.tracks
                if other is not track
            ):
                self.fail(f"{track.name}: {verdict.name}, but nothing else has succeeded in this life")
        elif verdict is not Verdict.SAID_SO and not track.alone and not spent:
            self.fail(f"{track.name}: {verdict.name}, but its last try was not alone, or not in a fresh process")
        healer = track.stream.healer
        if verdict is Verdict.NOBODY_ELSE:
            if healer is not None and healer.undecided:
                self.fail(f"{track.name}: {verdict.name}, but others are undecided")
            self._world.provoke()

    def _excuse(self, track: Track, verdict: Verdict) -> str:
        """What nobody could have known (docs/judging.md, "What cannot be promised"); empty: it could be known."""
        now, stream = self._world.now, track.stream
        if track.unclear:
            return "an outage of what only some use"
        if track.by_chance + track.kills >= self._spec.policy.crashes_alone_min:
            return "hosts that died by chance while it was alone"
        if verdict is Verdict.NOBODY_ELSE:
            begun = [down for down in self._spec.outages if down.shard in (None, stream.number) and down.since <= now]
            stream.nobody_else.add(track.position)  # the host may die before it is stored: judged again, it is the same
            return "one outage" if len(stream.nobody_else) <= len(begun) else ""
        return "outages that look alike" if verdict is Verdict.LEFT_OVER and len(track.hit_by) > 1 else ""

    def checkpointed(self, stream: Stream, position: int) -> None:
        passed = stream.unchecked(position)
        if passed is not None:
            self.fail(f"checkpoint {position} passes {passed.name}")
        if position > len(stream.tracks):
            self.fail(f"checkpoint {position} is beyond the last record")

    def stored(self, track: Track) -> None:
        track.ever = track.ever or "stored"
        if track.judged:  # else it was so in an earlier reading of its shard, and the write was long on its way
            if track.prev is None or track.prev.forgot_at == float("-inf"):  # else: of two, only one has an effect
                self._in_turn(track, "is stored")
            track.set_aside += not track.fate
            track.fate = track.fate or "stored"

    def left_in_order(self, stream: Stream, settled: set[int]) -> None:
        """The next owner starts exactly at the first open record. `settled`: positions, as the host knows."""
        if stream.checkpoint + 1 in settled:
            name = stream.tracks[stream.checkpoint].name
            self.fail(f"left at {stream.checkpoint}, but {name} is settled")

    def complete(self, stream: Stream) -> None:
        passed = stream.unchecked(len(stream.tracks))
        if passed is not None:
            self.fail(f"complete, but {passed.name} is open")
        if stream.checkpoint != len(stream.tracks):
            self.fail(f"complete, but the checkpoint is {stream.checkpoint}")

    # -- the books ---------------------------------------------------------------------

    def audit(self, healer: Healer) -> None:
        ledger = healer.ledger
        if ledger.read != ledger.done + ledger.quarantined + ledger.filtered + ledger.in_flight:
            self.fail("read is not done + quarantined + filtered + in flight")
        left = 0
        for span in ledger.spans.values():
            left += span.left
        if ledger.in_flight != left:
            self.fail("in flight differs from what is left of the spans")
        if ledger.size < 0 or (not ledger.spans and (ledger.size or ledger.unreported or ledger.uncounted)):
            self.fail("nothing is open, but sizes or counts are left")

    def scraped(self, figures: list[ShardFigures]) -> None:
        """What people are shown adds up at every moment."""
        for shard in figures:
            if shard.read != shard.done + shard.quarantined + shard.filtered + shard.in_flight:
                self.fail(f"the figures of {shard.shard_id} do not add up: {shard}")
            if min(shard.read, shard.done, shard.quarantined, shard.filtered, shard.in_flight) < 0:
                self.fail(f"a figure of {shard.shard_id} is negative: {shard}")

    # -- the end -----------------------------------------------------------------------

    def at_the_end_of_time(self, stream: Stream) -> None:
        """Only what needs a human may be left: bad records, of which nobody can tell."""
        run, healer, world = stream.run, stream.healer, self._world
        if world.now - stream.born_at < 1_000:
            return  # nobody can have decided anything yet
        if stream.parent is not None and not stream.parent.finished:
            return
        if run is None or healer is None:
            self.fail(f"stuck: shard {stream.number} is not run at {world.now:.0f} s")
        if healer.over and healer.needs_human:
            return  # stopped, and a human was called
        if world.now - stream.passed_at < 200:
            return  # it goes on, though it may be slowly
        left = [run.seat.items[at].track for at in healer.undecided]  # type: ignore[attr-defined]  # it is our seat
        story = f"shard {stream.number} at {world.now:.0f} s: " + (
            f"{run.needs_human=} {healer.paused=} left {[track.name for track in left]}"
        )
        if not healer.needs_human or not left:
            self.fail(f"stuck: {story}")
        if not world.broken and any(self._known_innocent(track) for track in left):
            self.fail(f"an innocent is left: {story}")
        alone = len(world.unfinished()) == 1
        if alone and not healer.doubt and len(left) == 1 and not healer.ledger.unreported:
            self.fail(f"the only one undecided is left: {story}")
        if alone and not healer.ledger.unreported:
            self._left_over(left, story)
        self.seen["worlds that end with a human called"] += 1

    def _known_innocent(self, track: Track) -> bool:
        chance = track.by_chance >= self._spec.policy.crashes_alone_min
        return track.rec.kind in INNOCENT and not track.unclear and not chance

    def _left_over(self, left: list[Track], story: str) -> None:
        if any(not track.failed for track in left):
            return  # its hosts died of it, and it has not been tried in this life
        unfollowed = Counter(track.failed[-1] for track in left if not self._followed(track))
        if max(unfollowed.values(), default=0) > 1:
            return
        for track in left:
            uniform = len(set(track.failed)) == 1 and not track.alone_when_died and track.rec.kind != "perhaps"
            if self._followed(track) and uniform:
                self.fail(f"{track.name} failed in one way while others succeeded, and is left: {story}")

    @staticmethod
    def _followed(track: Track) -> bool:
        return track.stream.witnessed_since >= track.first_failed_at
