"""How hosts die, and what is durably known of who ran in them: the oracle's own reading of the marks."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from streamheal.core.healer import Healer
from tests.simulation.generate import HOST_KILLERS, Fault

if TYPE_CHECKING:
    from tests.simulation.oracle import Stream, Track
    from tests.simulation.world import World

# Four from one checkpoint, and the life before that had come to it from an earlier one; two more for each other
# record that kills hosts (docs/judging.md).
DEATHS_MAX, DEATHS_MORE = 5, 2
ALONE_MAX = 2
# So many from one checkpoint are one record's doing beyond doubt; from some more on, nobody can say.
LIVES_EXPLAINED = 4
# A worker reads that caution is over once what hangs in it has been stopped.
_CALM_S = 100.0


class Hosts:
    """All hosts of a world, one after another.

    Attributes:
        outside: How many ended of something else than a record.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self.outside = 0
        self._killers = sum(rec.kind in HOST_KILLERS for records in world.spec.shards for rec in records)
        self._killer: Track | None = None
        self._deaths: Counter[tuple[Track, int]] = Counter()
        self._calm_at = 0.0  # when a shard was last cautious, as far as known: one may be given up in between

    def dies_of(self, track: Track) -> None:
        """The host is gone before anything else can happen."""
        self._killer = track
        self._world.note(f"{self._world.now:9.3f}    HOST dies of {track.name}, {self.marked().get(track)}")
        self._world.befall(Fault(self._world.steps, "host", 0))

    def over(self) -> None:
        """A life has ended. Marks that it has not taken back are a death's, for all that the next one knows."""
        killer, self._killer = self._killer, None
        oracle = self._world.oracle
        marked = self.marked()
        for stream in self._world.streams:
            stream.explained = any(track.stream is stream for track in marked)
        for track, alone in marked.items():
            if alone:
                track.alone_when_died += 1
                track.by_chance += track is not killer
        for stream in self._world.streams:
            for track in stream.tracks:
                track.running = False
        if killer is None:
            self.outside += 1
            return
        oracle.seen["hosts that died of a record"] += 1
        self._deaths[killer, killer.stream.checkpoint] += 1
        if self.outside:
            return
        deaths = self._deaths[killer, killer.stream.checkpoint]
        # Set aside, and not passed when a host died of another: nobody knows it any more.
        times = 1 + killer.set_aside
        if deaths > (DEATHS_MAX + DEATHS_MORE * (self._killers - 1)) * times:
            oracle.fail(f"{killer.name} killed {deaths} hosts that began at {killer.stream.checkpoint}")
        if killer.alone_when_died > ALONE_MAX * times:
            oracle.fail(f"{killer.name} killed {killer.alone_when_died} hosts in which it was known to run alone")

    def marked(self) -> dict[Track, bool]:
        """Who is durably marked by this life; True: alone."""
        found: dict[Track, bool] = {}
        world = self._world
        for stream in world.streams:
            value = world.state.marks(stream.shard_id)
            if value and value["running"] and value.get("life") == world.life.runtime.caution.life:
                found.update({_track(stream, text): alone for text, _, alone in value["running"]})
        return found

    def suspects(self, stream: Stream) -> set[int]:
        value = self._world.state.marks(stream.shard_id)
        found = {_track(stream, text).position for text, _ in value["suspects"]} if value else set()
        return {position for position in found if position > stream.checkpoint}

    def starts(self, track: Track, *, asked: bool) -> None:
        """`asked`: it had to ask, and is permitted."""
        world = self._world
        marked = self.marked()
        if asked and track not in marked:
            world.oracle.fail(f"{track.name} runs in cautious mode, and is not marked")
        if not marked:
            return
        beside = next((other for other, alone in marked.items() if alone and other is not track), None)
        if beside is not None:
            world.oracle.fail(f"{track.name} runs beside {beside.name}, which is marked alone")
        if marked.get(track):
            world.oracle.seen["runs alone in a host"] += 1
            others = [other.name for stream in world.streams for other in stream.tracks if other.running]
            if others:
                world.oracle.fail(f"{track.name} is marked alone, but {others[0]} runs")

    # -- full speed ----------------------------------------------------------------------

    def heard(self, stream: Stream, healer: Healer, was_cautious: bool, now: float) -> None:
        """The core of a shard has taken in an event."""
        if was_cautious and not healer.cautious:
            self._calm_at = now
            self._world.oracle.seen["shards past their spot"] += 1
        if not stream.suspects:
            return
        kept = healer._progress.kept  # what the engine keeps may not have been heard of yet
        # What a state that fails has kept of starts may make a host more cautious, and never less.
        explained = stream.explained and stream.lives_here <= LIVES_EXPLAINED and not self._world.spec.fails
        if kept is None or not explained:
            return
        if healer.cautious and max(stream.suspects) <= kept.sequence:
            self._world.oracle.fail(f"shard {stream.number} is cautious, and past its spot")

    def asked(self) -> None:
        world = self._world
        cautious = any(stream.healer is not None and stream.healer.cautious for stream in world.streams)
        if cautious:
            self._calm_at = world.now
        elif world.now - self._calm_at > _CALM_S:
            world.oracle.fail(f"workers ask before they begin, {world.now - self._calm_at:.0f} s after all is well")


def _track(stream: Stream, text: str) -> Track:
    return stream.tracks[int(text.partition("/")[0]) - 1]
