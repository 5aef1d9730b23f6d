"""Several trainers in one step, and steps that learn from episodes stored earlier, of their own run or another."""

import dataclasses
import math
from typing import Any

import pytest
from numpy import float32

from sparring.envs.types import Pick
from sparring.scenarios.errors import StoreError
from sparring.storage import queries
from sparring.storage.lineage import why
from sparring.storage.records import AdvantageRow, CheckpointRow, GroupRow, StepRecord
from sparring.storage.samples import sample_step
from sparring.storage.store import Store

SOLVER = 3  # the first attempt of a sample episode


def advantage(episode: int, turn: int = SOLVER, trainer: str = "rl", **changes: Any) -> AdvantageRow:
    row = AdvantageRow(episode, turn, "solver", 0, 1.0, 0.5, 1.0, 3, 0.25, trainer=trainer)
    return dataclasses.replace(row, **changes)


def offline(number: int, borrowed: tuple[int, ...], *advantages: AdvantageRow, checkpoint: bool = True) -> StepRecord:
    """A step that plays nothing."""
    return StepRecord(
        number,
        groups=(GroupRow(0, "solver", "solve", "siblings", 2, 0.5, 0.5, trainer="sft"),),
        advantages=advantages or tuple(advantage(at, trainer="sft") for at in range(len(borrowed))),
        policy_version=number + 1,
        weights_sha=f"offline {number}",
        checkpoint=CheckpointRow(f"step_{number}", "sha", 1) if checkpoint else None,
        borrowed=borrowed,
    )


def ids(store: Store, *steps: int, run: str = "r1") -> tuple[int, ...]:
    """Database ids of the episodes of these steps that have a solver."""
    found = [stored for step in steps for stored in queries.stored_episodes(store, run, range(step, step + 1))]
    return tuple(stored.id for stored in found if len(stored.episode.turns) > 1)


@pytest.fixture
def lent(filled: Store) -> Store:
    """Run r2 learnt in its steps 0 and 1 from the episodes of steps 1 and 2 of r1."""
    filled.start_run("offline", {"name": "offline"}, "other", 0)
    for number in range(2):
        filled.save_step("r2", offline(number, ids(filled, number + 1)))
    return filled


def test_two_trainers_use_one_turn(filled: Store) -> None:
    record = sample_step(3, episodes=2)
    number = len(record.groups)
    compared = GroupRow(number, "solver", "solve", "pairs", 7, 0.5, 0.5, True, "", "dpo", 16, 0.25, 0.125)
    more = tuple(advantage(0, SOLVER + 2 * at, "dpo", group=number) for at in range(3))
    filled.save_step(
        "r1", dataclasses.replace(record, groups=(*record.groups, compared), advantages=(*record.advantages, *more))
    )
    roles = {(role.role, role.trainer): role for role in why(filled, "r1", 3, limit=9).roles}
    assert roles["solver", "dpo"].n_turns == 3 and roles["solver", "rl"].n_turns == 7
    assert {turn.group for turn in roles["solver", "dpo"].turns} == {compared}
    assert queries.steps(filled, "r1")[3].trainers == "dpo, rl"
    assert len(queries.select_rows(filled, "SELECT * FROM v_turns WHERE step = 3").rows) == sum(
        len(episode.turns) for episode in record.episodes
    )


def test_a_turn_is_used_once_by_a_trainer_of_a_step(filled: Store) -> None:
    record = sample_step(3, episodes=2)
    with pytest.raises(StoreError, match="UNIQUE"):
        filled.save_step("r1", dataclasses.replace(record, advantages=(*record.advantages, record.advantages[0])))
    assert filled.run("r1").last_step == 2


def test_a_turn_that_two_trainers_used_counts_once_in_rewards(filled: Store) -> None:
    record = sample_step(3, episodes=2)
    again = tuple(dataclasses.replace(row, trainer="dpo") for row in record.advantages[:3])
    filled.save_step("r1", dataclasses.replace(record, advantages=record.advantages + again))
    with Store.memory() as other:
        other.start_run("once", {}, "digest", 0)
        other.save_step("r1", record)
        expected, found = queries.steps(other, "r1")[0], queries.steps(filled, "r1")[3]
        assert found.reward == pytest.approx(expected.reward)
        rewards = [episode.reward for episode in queries.episodes(other, "r1", "latest")]
    assert [episode.reward for episode in queries.episodes(filled, "r1", "latest", step=3)] == rewards


def test_per_token_advantages_come_back_as_float32(filled: Store) -> None:
    tokens, note = (0.1, -2.5, 0.0), "demonstration"
    filled.save_step("r1", offline(3, ids(filled, 0)[:1], advantage(0, tokens=tokens, note=note)))
    turn = why(filled, "r1", 3).roles[0].turns[0]
    assert turn.token_advantages == tuple(float(float32(value)) for value in tokens)
    assert turn.entered == note
    sizes = queries.select_rows(filled, "SELECT length(tokens) FROM advantages WHERE step_id = 4").rows
    assert sizes == ((1 + 3 * 4,),)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tokens": (0.5,)}, "1 per-token advantages for 3 trained tokens"),
        ({"tokens": (0.5, math.nan, 0.5)}, "no number to learn from"),
        ({"tokens": (0.5, 1e300, 0.5)}, "too large for float32"),
        ({"turn": 99}, r"turn 99.*no such turn"),
        ({"episode": 1}, "no such turn in the step"),
        ({"episode": -1}, "no such turn in the step"),
    ],
)
def test_an_impossible_advantage_is_refused_whole(filled: Store, change: dict[str, Any], message: str) -> None:
    before = queries.run_hash(filled, "r1")
    with pytest.raises(StoreError, match=message):
        filled.save_step("r1", offline(3, ids(filled, 0)[:1], advantage(**{"episode": 0, **change})))
    assert queries.run_hash(filled, "r1") == before
    assert queries.select_rows(filled, "SELECT count(*) FROM borrowed").rows == ((0,),)


@pytest.mark.parametrize(("borrowed", "message"), [((1, 777), "id 777"), ((1, 1), "twice")])
def test_a_borrowed_episode_must_be_there_once(filled: Store, borrowed: tuple[int, ...], message: str) -> None:
    with pytest.raises(StoreError, match=message):
        filled.save_step("r1", offline(3, borrowed, advantage(0)))
    assert filled.run("r1").last_step == 2


def test_a_borrowed_turn_is_explained_by_the_run_that_played_it(lent: Store) -> None:
    report = why(lent, "r2", 1)
    (role,) = report.roles
    assert (role.role, role.trainer, report.made_version) == ("solver", "sft", 2)
    turn = role.turns[0]
    assert turn.episode.startswith("r1/2/") and turn.turn == SOLVER
    played = queries.episode(lent, "r2", turn.episode)
    assert (turn.said, turn.arm) == (played.turns[SOLVER].said, f"depth={1 + played.pick}")
    assert turn.task is not None and turn.task.key == played.turns[SOLVER].task
    assert [score.name for score in turn.scores] == ["verifier", "rubric", "format"]
    assert turn.sampled_by_version == 2


def test_the_views_tell_played_from_borrowed(lent: Store) -> None:
    step = queries.steps(lent, "r2")[0]
    assert (step.episodes, step.tokens, step.reward, step.borrowed, step.borrowed_reward) == (0, 0, None, 3, 1.0)
    assert step.trainers == "sft" and queries.steps(lent, "r1")[1].borrowed == 0
    ask = "SELECT score, n, mean, borrowed FROM v_rewards WHERE role = 'solver' AND run = '{}' AND step = {} ORDER BY 1"
    mine = queries.select_rows(lent, ask.format("r2", 0)).rows
    theirs = queries.select_rows(lent, ask.format("r1", 1)).rows
    assert mine == tuple((*row[:3], 1) for row in theirs) and {row[3] for row in theirs} == {0}
    found = queries.select_rows(lent, "SELECT DISTINCT step, episode FROM v_lineage WHERE run = 'r2' AND step = 0").rows
    assert sorted(found) == [(0, "r1/1/0"), (0, "r1/1/1"), (0, "r1/1/2")]


def test_being_borrowed_changes_nothing_in_the_run_that_lent(filled: Store) -> None:
    asked = "SELECT episode, turn, reward, advantage, pull FROM v_turns WHERE run = 'r1' ORDER BY 1, 2"
    before = queries.steps(filled, "r1"), queries.run_hash(filled, "r1"), queries.select_rows(filled, asked)
    filled.start_run("offline", {}, "other", 0)
    filled.save_step("r2", offline(0, ids(filled, 0, 1)))
    assert (queries.steps(filled, "r1"), queries.run_hash(filled, "r1"), queries.select_rows(filled, asked)) == before
    lent = [row.borrowed for row in queries.episodes(filled, "r1", "latest", limit=99)]
    assert sum(lent) == 6 and max(lent) == 1


def test_rolling_back_a_borrower_leaves_the_lender_whole(lent: Store) -> None:
    before = queries.run_hash(lent, "r1")
    with_both = queries.run_hash(lent, "r2")
    assert lent.resume_point("r2", usable=lambda saved: saved.path == "step_0").last_step == 0
    assert queries.run_hash(lent, "r1") == before and queries.damaged(lent, "r1") == []
    assert queries.select_rows(lent, "PRAGMA foreign_key_check").rows == ()
    lent.save_step("r2", offline(1, ids(lent, 2)))
    assert queries.run_hash(lent, "r2") == with_both


def test_a_lender_is_not_rolled_back_past_what_it_lent(lent: Store) -> None:
    before = queries.run_hash(lent, "r1"), queries.run_hash(lent, "r2")
    with pytest.raises(StoreError, match=r"r1 cannot go back before its step 1: run r2 learnt from .* steps 1 to 2"):
        lent.resume_point("r1", usable=lambda saved: saved.path == "step_0")
    assert (queries.run_hash(lent, "r1"), queries.run_hash(lent, "r2")) == before
    assert lent.resume_point("r1").last_step == 2


def test_the_database_itself_keeps_lent_episodes(lent: Store) -> None:
    with pytest.raises(StoreError, match="FOREIGN KEY"), lent._database.write() as connection:
        connection.exec_driver_sql("DELETE FROM runs WHERE id = 1")
    with lent._database.write() as connection:
        connection.exec_driver_sql("DELETE FROM runs WHERE id = 2")
        connection.exec_driver_sql("DELETE FROM runs WHERE id = 1")
    for name in ("episodes", "borrowed", "advantages", "turns"):
        assert queries.select_rows(lent, f"SELECT count(*) FROM {name}").rows == ((0,),)


def test_a_run_replays_its_own_steps_and_rolls_back_over_both(filled: Store) -> None:
    record = dataclasses.replace(sample_step(3, episodes=2, checkpoint=False), borrowed=ids(filled, 2))
    more = (*record.advantages, advantage(2, trainer="replay"))
    before = queries.run_hash(filled, "r1")
    filled.save_step("r1", dataclasses.replace(record, advantages=more))
    step = queries.steps(filled, "r1")[3]
    assert (step.episodes, step.borrowed, step.trainers) == (2, 3, "replay, rl")
    assert filled.resume_point("r1").last_step == 2
    assert queries.run_hash(filled, "r1") == before
    filled.save_step("r1", dataclasses.replace(record, advantages=more))
    assert filled.resume_point("r1", usable=lambda saved: saved.path == "step_0").last_step == 0


def test_a_run_hash_sees_who_learnt_what_from_which_episodes(filled: Store) -> None:
    some = ids(filled, 0)

    def hashed(record: StepRecord) -> str:
        run = filled.start_run("offline", {}, "other", 0).id
        filled.save_step(run, record)
        return queries.run_hash(filled, run)

    plain = offline(0, some)
    assert hashed(plain) == hashed(offline(0, some))
    pooled = dataclasses.replace(plain.groups[0], pool_size=9)
    for changed in (
        offline(0, some[::-1]),
        offline(0, ids(filled, 1)),
        dataclasses.replace(plain, advantages=(advantage(0, trainer="rl"), *plain.advantages[1:])),
        dataclasses.replace(plain, advantages=(advantage(0, trainer="sft", note="x"), *plain.advantages[1:])),
        dataclasses.replace(plain, groups=(pooled,)),
    ):
        assert hashed(changed) != hashed(plain)


def test_a_step_may_borrow_many_episodes(store: Store) -> None:
    store.start_run("sample", {}, "digest", 0)
    refused = sample_step(0, episodes=2).episodes[1]
    episodes = tuple(dataclasses.replace(refused, index=at, pick=0) for at in range(1200))
    store.save_step("r1", StepRecord(0, picks=(Pick("all", count=1200),), episodes=episodes))
    every = tuple(stored.id for stored in queries.stored_episodes(store, "r1"))
    store.save_step("r1", offline(1, every, *(advantage(at, 0) for at in range(1200))))
    assert (queries.steps(store, "r1")[1].borrowed, why(store, "r1", 1).roles[0].n_turns) == (1200, 1200)
