"""Later turns in the place of failed ones: which comes in, where it leaves, who makes room."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from sparring.envs.types import Ending, Episode, Score, Turn
from sparring.scenarios.schema import RoleSpec
from sparring.training.credit import form
from sparring.training.groups import Group, Place
from sparring.training.stages.base import apply
from sparring.training.stages.substitutes import Insert, Replace

SPEC = RoleSpec(kind="plain", reward={"verifier": 1.0})


def revised(
    first: Sequence[float], later: Sequence[tuple[int, float]], author: str = "solver", task: str = "t"
) -> Episode:
    """Attempts below one environment turn, and revisions (of which attempt, reward) at the node ``revise``."""
    turns = [Turn(0, None, "set", "environment", "", task=task)]
    turns += [Turn(at, 0, "solve", "solver", "", token_ids=(5,), logprobs=(-1.0,), task=task)
              for at in range(1, len(first) + 1)]  # fmt: skip
    for parent, _ in later:
        turns.append(Turn(len(turns), parent, "revise", author, "", token_ids=(6, 7), logprobs=(-1.0,) * 2, task=task))
    rewards = [*first, *(reward for _, reward in later)]
    scores = {at: (Score.valued("verifier", reward, "test"),) for at, reward in enumerate(rewards, 1)}
    return Episode(0, 0, {}, tuple(turns), (), scores, {}, {}, Ending.DONE)


def grouped(episode: Episode, stage: Any) -> dict[str, Group]:
    groups = form([episode], "solver", SPEC)
    return {group.node: group for group in apply([stage], groups, [episode])}


def of(kind: Any, **more: Any) -> Any:
    return kind(kind.Config(node="revise", **more))


def places(group: Group) -> list[int]:
    return [member.place.turn for member in group.members]


def test_the_first_right_turn_replaces_the_worst_of_a_failed_group() -> None:
    """One slot of seven plus one: the smallest hint that helps (Scaf-GRPO, arXiv 2510.19807)."""
    episode = revised([0.1] + [0.0] * 7, [(1, 0.0), (2, 1.0), (3, 1.0)])
    found = grouped(episode, of(Replace))
    assert places(found["solve"]) == [1, 10, 3, 4, 5, 6, 7, 8]
    assert found["solve"].members[1].note == "replaced" and found["solve"].members[1].tokens == 2
    assert found["solve"].reward_G == [0.1, 1.0, 0, 0, 0, 0, 0, 0]
    assert found["solve"].pool.mean == pytest.approx(0.1 / 8)
    assert found["revise"].dropped == "stands in for earlier turns" and 10 not in places(found["revise"])


def test_the_stage_tells_how_many_groups_got_a_turn_and_how_many_failed_ones_were_rescued() -> None:
    episodes = [
        revised([0.0, 0.0], [(1, 1.0)], task="rescued"),
        revised([0.0, 0.0], [(1, 0.4)], task="failed; the best is not right"),
        revised([0.0, 1.0], [(1, 1.0)], task="half right"),
        revised([1.0, 1.0], [], task="nothing comes in"),
    ]
    figures: dict[str, float] = {}
    apply([of(Insert, when="always")], form(episodes, "solver", SPEC), episodes, figures)
    assert figures == pytest.approx(
        {"inserted/share/solver": 3 / 4, "inserted/right/solver": 2 / 3,
         "inserted/failed/solver": 1 / 2, "inserted/rescued/solver": 1 / 2}
    )  # fmt: skip


def test_without_a_right_turn_the_best_comes_in_when_it_is_better() -> None:
    assert places(grouped(revised([0.0, 0.1], [(1, 0.2), (2, 0.3)]), of(Replace))["solve"]) == [4, 2]
    assert places(grouped(revised([0.2, 0.2], [(1, 0.2)]), of(Replace))["solve"]) == [1, 2]


def test_a_group_with_any_success_is_left_alone_unless_always() -> None:
    episode = revised([1.0, 0.0], [(1, 1.0)])
    assert places(grouped(episode, of(Replace))["solve"]) == [1, 2]
    assert places(grouped(episode, of(Replace, when="always"))["solve"]) == [1, 3]


def test_insertion_makes_room_for_one_more(player: Any) -> None:
    """Refinements join the initial answers and the baseline is over the union (Critique-GRPO, arXiv 2506.03106)."""
    found = grouped(revised([0.0, 0.0], [(1, 0.0), (2, 1.0)]), of(Insert, weight=0.5))["solve"]
    assert places(found) == [1, 2, 4]
    assert (found.members[-1].note, found.members[-1].weight) == ("inserted", 0.5)
    assert found.pool.size == 2


def test_what_did_not_move_may_go_on_learning() -> None:
    found = grouped(revised([0.0, 0.0], [(1, 0.0), (2, 1.0), (2, 0.0)]), of(Insert, rest="keep"))
    # 3 has no sibling, so it is compared with what is left of 4 and 5 where the two branches part
    left = [turn for group in found.values() if group.node == "revise" for turn in places(group)]
    assert 4 not in left and not found["revise"].dropped


def test_turns_of_other_roles_do_not_move() -> None:
    found = grouped(revised([0.0, 0.0], [(1, 1.0)], author="teacher"), of(Replace))
    assert places(found["solve"]) == [1, 2]


def test_a_turn_that_moved_out_of_a_dropped_group_is_in_one_group_only() -> None:
    episode = revised([0.0, 0.0], [(1, 1.0), (1, 1.0)])
    groups = [group.without("all equal") if group.node == "revise" else group
              for group in form([episode], "solver", SPEC)]  # fmt: skip
    found = apply([of(Replace)], groups, [episode])
    assert [member.place for group in found for member in group.members].count(Place(0, 3)) == 1
    assert found[1].dropped == "all equal"


def test_a_group_by_itself_reads_the_verifiers_score() -> None:
    episode = revised([0.0, 0.0], [(2, 1.0)])
    [solve] = [group for group in form([episode], "solver", SPEC) if group.node == "solve"]
    assert of(Replace)(solve, [episode]).reward_G == [1.0, 0.0]


def test_a_turn_one_of_whose_rewards_failed_does_not_come_in() -> None:
    """Its verifier's score alone would be another measure than that of the group."""
    episode = revised([0.0, 0.0], [(1, 1.0), (2, 0.5)])
    scores = {at: (*held, Score.valued("style", 0.0, "test")) for at, held in episode.scores.items()}
    scores[3] = (episode.scores[3][0], Score.invalid("style", "test", "the judge was down"))
    episode = replace(episode, scores=scores)
    spec = RoleSpec(kind="plain", reward={"verifier": 1.0, "style": 1.0})
    found = apply([of(Insert)], form([episode], "solver", spec), [episode])
    assert [places(group) for group in found if group.node == "solve"] == [[1, 2, 4]]
