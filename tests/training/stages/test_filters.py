"""Which groups and members are dropped, and that what is dropped is made up for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparring.envs.types import Episode, Parsed
from sparring.training.groups import Group, Member, Place
from sparring.training.stages.base import apply
from sparring.training.stages.filters import Band, ThreeSigma, Varied, VoidTurns
from sparring.training.stages.more import wanted


def kept(groups: Sequence[Group]) -> int:
    return sum(not group.dropped for group in groups)


def test_the_band_keeps_its_edges_and_says_why_it_drops(group: Any) -> None:
    band = Band(Band.Config(low=0.25, high=0.75))
    assert band(group([1.0, 0.0, 0.0, 0.0]), []).dropped == "" == band(group([1.0, 1.0, 1.0, 0.0]), []).dropped
    assert band(group([1.0] * 4), []).dropped == "mean 1 outside [0.25, 0.75]"
    with pytest.raises(ValueError, match="is above high"):
        Band.Config(low=0.8, high=0.2)


def test_groups_that_agree_are_dropped(group: Any) -> None:
    assert Varied()(group([1.0, 1.0]), []).dropped == "all equal"
    assert Varied()(group([1.0]), []).dropped == "alone"
    assert Varied()(group([1.0, 0.9]), []).dropped == ""


def test_refill_brings_the_step_back_to_as_many_groups_as_it_began_with(player: Any) -> None:
    """TRL's "dapo" drops nothing and refills nothing; DAPO's dynamic sampling does both (arXiv 2503.14476)."""
    stage = Varied(Varied.Config(refill=20))
    played = player([0.5] * 6, samples=3, seed=1)
    began = kept(apply([stage], played_groups(played), played.episodes))
    assert began < 6
    assert 0 < played.play([stage]) < 20
    assert kept(apply([stage], played_groups(played), played.episodes)) == 6


@settings(max_examples=20, deadline=None)
@given(chance=st.floats(0, 1), samples=st.integers(1, 4), refill=st.integers(0, 3), seed=st.integers(0, 99))
def test_refill_asks_for_no_more_than_is_missing_and_ends(
    player: Any, chance: float, samples: int, refill: int, seed: int
) -> None:
    stage = Varied(Varied.Config(refill=refill))
    played = player([chance] * 4, samples, seed)
    assert played.play([stage]) <= refill
    assert len(played.episodes) <= 4 * (1 + refill)
    assert kept(apply([stage], played_groups(played), played.episodes)) <= 4


def test_a_band_refills_only_when_asked_to(player: Any) -> None:
    assert player([1.0] * 3, 4).play([Band()]) == 0
    assert player([1.0] * 3, 4).play([Band(Band.Config(refill=2))]) == 2


def test_a_group_over_a_whole_pick_asks_for_what_it_began_with(attempts: Any) -> None:
    """A group that grows by its refills does not ask for twice as many each round."""
    episodes = [attempts([0.0], f"t{at}", at, pick=0) for at in range(9)]
    members = [Member(Place(at, 1), 0.0) for at in range(9)]
    one = Group.of("solver", "solve", "pick 0", members)
    [want] = wanted([Varied()], [one], episodes, 1, first=3)
    assert (want.kind, want.episode, want.count) == ("fresh", 0, 3)


def test_what_two_roles_miss_of_one_pick_is_played_once(attempts: Any, groups: Any) -> None:
    episodes = [attempts([1.0, 1.0])]
    solvers = groups(episodes)
    critics = [replace(group, role="critic") for group in solvers]
    assert [want.count for want in wanted([Varied()], [*solvers, *critics], episodes, 0)] == [1]


def test_an_outlier_of_the_step_is_dropped_and_its_pool_remembers_it(group: Any) -> None:
    calm = [group([0.0, 1.0] * 3) for _ in range(3)]
    wild = group([0.0, 1.0, 50.0])
    found = apply([ThreeSigma()], [*calm, wild], [])
    assert [len(one.members) for one in found] == [6, 6, 6, 2]
    assert found[-1].pool == wild.pool and found[-1].reward_G == [0.0, 1.0]


@pytest.mark.parametrize("n", range(2, 11))
def test_no_group_of_ten_or_fewer_has_a_member_three_of_its_own_deviations_off(n: int, group: Any) -> None:
    own = ThreeSigma(ThreeSigma.Config(over="group"))
    assert len(own(group([0.0] * (n - 1) + [1e9]), []).members) == n


def test_the_eleventh_member_can_be_three_deviations_off(group: Any) -> None:
    own = ThreeSigma(ThreeSigma.Config(over="group"))
    assert own(group([0.0] * 10 + [1.0]), []).reward_G == [0.0] * 10


def conversation(attempts: Any, oks: Sequence[bool]) -> Episode:
    """Attempts that follow one another, each with or without an action."""
    episode = attempts([1.0] * len(oks))
    turns = [episode.turns[0]]
    for at, ok in enumerate(oks, 1):
        parsed = Parsed("answer", "4" if ok else None, None if ok else "no answer")
        turns.append(episode.turns[at].amended(follows=at - 1 if at > 1 else None, parsed=parsed))
    changed: Episode = replace(episode, turns=tuple(turns))
    return changed


def test_a_void_turn_silences_its_whole_trajectory(attempts: Any, group: Any) -> None:
    """Turns after an empty one drift and make the run collapse (SimpleTIR, arXiv 2509.02479)."""
    episode = conversation(attempts, [True, False, True])
    assert VoidTurns()(group([1.0, 0.0, 0.0]), [episode]).dropped == "every trajectory has a void turn"
    whole = conversation(attempts, [True, True, True])
    assert VoidTurns()(group([1.0, 0.0, 0.0]), [whole]) == group([1.0, 0.0, 0.0])


def test_a_void_turns_reward_counts_in_the_mean_or_not(attempts: Any, group: Any) -> None:
    episode = attempts([1.0, 0.0, 0.0])
    bad = episode.turns[3].amended(parsed=Parsed("answer", None, "no answer"))
    episode = replace(episode, turns=(*episode.turns[:3], bad))
    counted = VoidTurns()(group([1.0, 0.0, 0.0]), [episode])
    assert [(member.weight, member.note) for member in counted.members] == [(1, ""), (1, ""), (0, "void turn")]
    gone = VoidTurns(VoidTurns.Config(count=False))(group([1.0, 0.0, 0.0]), [episode])
    assert gone.reward_G == [1.0, 0.0] and gone.pool == counted.pool


def test_a_shared_turn_is_void_only_when_every_continuation_is(attempts: Any, group: Any) -> None:
    episode = conversation(attempts, [True, False, True])
    branched = replace(episode, turns=(*episode.turns[:3], episode.turns[3].amended(follows=1)))
    found = VoidTurns(VoidTurns.Config(count=False))(group([1.0, 0.5, 0.0]), [branched])
    assert found.reward_G == [1.0, 0.0]


def played_groups(played: Any) -> list[Group]:
    from sparring.scenarios.schema import RoleSpec
    from sparring.training.credit import form

    return form(played.episodes, "solver", RoleSpec(kind="plain", reward={"verifier": 1.0}))
