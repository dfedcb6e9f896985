"""Who is to blame, as the pure question it is: successes around a try, and what patience can decide."""

from __future__ import annotations

import pytest

from streamheal.core.blame import Bracket, Chain, bracket, left_over
from streamheal.core.case import Case, Phase
from streamheal.core.messages import Cause, Verdict
from tests.core.telling import at, record


def tried(sequence: int, *ways: str, ended: float = 11.0, tried_at: float = 10.0) -> Case:
    """A record that failed from 10.0 to 11.0, once in each of these ways, and was last sent at `tried_at`."""
    case = Case(record(sequence), Phase.TRIED)
    for likeness in ways or ("ValueError",):
        case.failed((Cause.RAISED, likeness), 10.0, ended, own=True)
    case.tried_at = tried_at
    return case


def chain(*successes: tuple[float, float]) -> Chain:
    found = Chain(bracket_s=5.0)
    for since, until in successes:
        found.add(since, until)
    return found


@pytest.mark.parametrize(
    ("successes", "found"),
    [
        pytest.param([], Bracket.NONE, id="none at all"),
        pytest.param([(9.0, 10.0), (10.9, 12.0)], Bracket.NONE, id="the second had begun before the failure"),
        pytest.param([(9.0, 10.0), (11.0, 14.0)], Bracket.TIGHT, id="just before, just after, just 5 s apart"),
        pytest.param([(9.0, 10.1), (11.0, 14.0)], Bracket.LOOSE, id="the first had not ended before the try"),
        pytest.param([(9.0, 10.0), (11.0, 14.1)], Bracket.LOOSE, id="more than 5 s apart"),
        pytest.param([(11.0, 14.0)], Bracket.LOOSE, id="none before"),
        pytest.param([(4.0, 5.0), (9.0, 9.0), (11.0, 13.0)], Bracket.TIGHT, id="a chain of three"),
        pytest.param([(9.0, 10.0), (11.0, 14.0), (6.0, 8.0)], Bracket.TIGHT, id="old news breaks no chain"),
    ],
)
def test_only_successes_close_around_a_try_speak_against_the_record(
    successes: list[tuple[float, float]], found: Bracket
) -> None:
    """The try is from 10.0 to 11.0. A success counts from where it may have begun to where it may have ended."""
    assert bracket(tried(3), chain(*successes)) is found


QUIET_AT = 100.0
FOLLOWED, UNFOLLOWED = 11.0, 200.0  # the success is from 11.0 to 11.5
LEFT_OVER, NOBODY_ELSE = Verdict.LEFT_OVER, Verdict.NOBODY_ELSE


def again(sequence: int, *ways: str, ended: float = FOLLOWED, tried_at: float = QUIET_AT) -> Case:
    """It was tried alone once more when patience was over."""
    return tried(sequence, *ways, ended=ended, tried_at=tried_at)


@pytest.mark.parametrize(
    ("undecided", "doubt", "found"),
    [
        pytest.param([again(1)], False, {1: NOBODY_ELSE}, id="the only one"),
        pytest.param([again(1, tried_at=99.9)], False, {}, id="the only one, not tried since"),
        pytest.param([again(1)], True, {1: LEFT_OVER}, id="in doubt, one that another followed"),
        pytest.param([again(1, ended=UNFOLLOWED)], True, {}, id="in doubt, one that nobody followed"),
        pytest.param([again(1), again(2)], False, {1: LEFT_OVER, 2: LEFT_OVER}, id="two that another followed"),
        pytest.param([again(1), again(2, tried_at=99.9)], False, {1: LEFT_OVER}, id="one of two not tried since"),
        pytest.param([again(1, "a", "b"), again(2, "a", "b")], False, {}, id="two that failed now so, now so"),
        pytest.param(
            [again(1), again(2, "a", "b")], False, {1: LEFT_OVER, 2: NOBODY_ELSE}, id="the one that is left then"
        ),
        pytest.param(
            [again(1), again(2, ended=UNFOLLOWED), again(3, "other", ended=UNFOLLOWED)],
            False,
            {1: LEFT_OVER},
            id="two that nobody followed, unlike",
        ),
        pytest.param(
            [again(1), again(2, ended=UNFOLLOWED), again(3, ended=UNFOLLOWED)],
            False,
            {},
            id="two that nobody followed, alike: an outage begins so",
        ),
    ],
)
def test_what_patience_can_decide(undecided: list[Case], doubt: bool, found: dict[int, Verdict]) -> None:
    verdicts = left_over(undecided, chain((11.0, 11.5)), QUIET_AT, doubt)
    assert {case.at: verdict for case, verdict in verdicts} == {at(nth): verdict for nth, verdict in found.items()}


def test_whoever_is_on_its_way_is_not_decided() -> None:
    case = again(1, tried_at=101.0)
    case.phase = Phase.ALONE
    assert left_over([case], chain((11.0, 11.5)), QUIET_AT, doubt=False) == []
