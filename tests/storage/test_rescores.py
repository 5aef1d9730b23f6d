"""Turns scored once more: what is asked for, what is left out and counted, who hands in, what it comes to."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from sparring.envs.types import CriterionScore, Ending, Finish, Score, Validity
from sparring.scenarios.errors import RunNotFound, StoreError
from sparring.storage.exporting.archive import pack, unpack
from sparring.storage.queries import run_hash, select_rows
from sparring.storage.rescore_figures import compared
from sparring.storage.rescores import (
    Asked,
    Rescore,
    Shift,
    begin,
    rescore,
    rescores,
    same_means,
    take_up,
)
from sparring.storage.samples import sample_step
from sparring.storage.store import Store

OPTIONS: dict[str, Any] = {"against": "verifier", "environment": {"kind": "code"}}


def begun(store: Store, **asked: Any) -> Rescore:
    return begin(store, "r1", "verifier", "code", OPTIONS, Asked(**asked))


def handed_in(store: Store, one: Rescore, **by_turn: Any) -> dict[int, float | None]:
    """Every waiting turn scored as ``new(stored)`` says; stored verifier scores by row id."""
    asked = f"SELECT u.id, x.value FROM rescored u JOIN scores x ON x.turn_id = u.turn_id AND x.name = 'verifier' \
        JOIN rescores r ON r.id = u.rescore_id WHERE r.number = {one.number}"
    stored = {row[0]: row[1] for row in select_rows(store, asked, 10_000).rows}
    shift = Shift(store, one, "me")
    new = by_turn.get("new", lambda value: Score.valued("verifier", value, "test"))
    while taken := shift.take(7):
        scores = {row.id: new(stored.get(row.id)) for row in taken}
        assert shift.hand_in(scores) == [row.id for row in taken]
    return stored


def test_every_turn_with_a_verdict_waits_and_the_others_are_counted_by_role(filled: Store) -> None:
    one = begun(filled)
    verified = select_rows(filled, "SELECT count(DISTINCT turn_id) FROM scores WHERE name = 'verifier'").rows[0][0]
    assert (one.number, one.turns, one.waiting) == (1, verified, verified)
    spoke = select_rows(filled, "SELECT count(*) FROM turns WHERE author <> 'environment'").rows[0][0]
    assert sum(left["turns"] for left in one.left_out) == spoke - verified
    assert {left["why"] for left in one.left_out} == {"the environment gave it no verifier score"}


def test_roles_and_steps_can_be_chosen_and_turns_without_a_verdict_too(filled: Store) -> None:
    one = begun(filled, roles=("critic",), first=1, last=2, judged=False)
    rows = select_rows(filled, "SELECT DISTINCT role, step FROM v_rescores ORDER BY step").rows
    assert rows == (("critic", 1), ("critic", 2)) and one.left_out == ()


def test_turns_of_broken_episodes_and_lost_turns_are_left_out_and_counted(store: Store) -> None:
    record = sample_step(0, episodes=3)
    broke = replace(record.episodes[0], ending=Ending.BROKE, error="out of memory")
    lost = record.episodes[1]
    at = next(turn.index for turn in lost.turns if turn.author == "solver")
    turns = tuple(turn.amended(finish=Finish.ABORT) if turn.index == at else turn for turn in lost.turns)
    episodes = (broke, replace(lost, turns=turns), *record.episodes[2:])
    store.start_run("sample", {}, "digest", 0)
    store.save_step("r1", replace(record, episodes=episodes))
    left = {(one["role"], one["why"]): one["turns"] for one in begun(store, roles=("solver",)).left_out}
    assert left[("solver", "nobody spoke: the engine gave up")] == 1
    solvers = sum(turn.author == "solver" for turn in broke.turns)
    assert left[("solver", "its episode broke when it was played")] == solvers


@pytest.mark.parametrize(
    ("asked", "says"),
    [({"roles": ("nobody",)}, "no turn of role nobody to score"), ({"first": 9, "last": 11}, "in steps 9 to 11"),
     ({"roles": ("critic",)}, r"of critic: the environment gave it no verifier score\)")],
)  # fmt: skip
def test_where_nothing_is_left_to_score_it_says_why_and_nothing_is_begun(filled: Store, asked: Any, says: str) -> None:
    with pytest.raises(StoreError, match=says):
        begun(filled, **asked)
    assert rescores(filled, "r1") == []


def test_scorings_are_numbered_and_an_absent_one_is_named(filled: Store) -> None:
    assert [begun(filled).number, begun(filled).number] == [1, 2]
    with pytest.raises(RunNotFound, match="r1 has no scoring 3; there are: 1, 2"):
        rescore(filled, "r1", 3)
    with pytest.raises(RunNotFound, match="no run r9"):
        rescores(filled, "r9")


def test_the_run_itself_stays_as_it_is(filled: Store) -> None:
    before = run_hash(filled, "r1"), select_rows(filled, "SELECT * FROM scores", 100_000)
    handed_in(filled, begun(filled), new=lambda value: Score.valued("verifier", 0.25, "test"))
    assert (run_hash(filled, "r1"), select_rows(filled, "SELECT * FROM scores", 100_000)) == before


def test_equal_scores_agree_in_everything(filled: Store) -> None:
    one = begun(filled)
    stored = [value for value in handed_in(filled, one).values() if value is not None]
    found = compared(filled, rescore(filled, "r1", 1))
    assert (found.total.agreement, found.total.equal, found.most_changed) == (1.0, 1.0, ())
    assert found.total.stored == pytest.approx(fmean(stored)) == found.total.new
    assert found.rescore.waiting == 0 and found.rescore.valued == len(stored)


def test_turned_scores_are_counted_by_the_side_they_change_to(filled: Store) -> None:
    one = begun(filled)
    stored = handed_in(filled, one, new=lambda value: Score.valued("verifier", 1 - value, "test"))
    total = compared(filled, one, 3).total
    right = sum(value == 1 for value in stored.values())
    assert (total.to_wrong, total.to_right, total.agreement) == (right, len(stored) - right, 0.0)
    changed = compared(filled, one, 3).most_changed
    assert len(changed) == 3 and {one.distance for one in changed} == {1.0}
    assert changed[0].episode.startswith("r1/") and changed[0].to_right + changed[0].to_wrong == changed[0].compared


def test_what_could_not_be_judged_is_no_number_and_is_told_by_cause(filled: Store) -> None:
    one = begun(filled, first=0, last=0)
    handed_in(filled, one, new=lambda value: Score.invalid("verifier", "judge", "connection refused"))
    found = compared(filled, one)
    assert (found.total.invalid, found.total.compared, found.total.new) == (one.turns, 0, None)
    assert found.invalid == (("connection refused", one.turns),)


def test_invalid_turns_can_be_taken_up_again(filled: Store) -> None:
    one = begun(filled, first=0, last=0)
    handed_in(filled, one, new=lambda value: Score.invalid("verifier", "judge", "down"))
    assert take_up(filled, one, Validity.INVALID) == one.turns
    handed_in(filled, one)
    again = rescore(filled, "r1", 1)
    assert (again.valued, again.invalid, again.waiting) == (one.turns, 0, 0)


def test_criteria_are_kept_with_their_quotes(filled: Store) -> None:
    one = begun(filled, first=0, last=0)
    row = CriterionScore(None, 0, 1.0, Validity.VALUED, "says", "12")
    handed_in(filled, one, new=lambda value: Score.valued("rubric", 1, "rubric", "", [row]))
    (told,) = json.loads(select_rows(filled, "SELECT criteria FROM v_rescores").rows[0][0])
    assert (told["quote"], told["validity"], told["by"]) == ("12", "valued", "says")


def test_two_processes_share_the_turns_and_none_is_taken_twice(filled: Store) -> None:
    one = begun(filled)
    me, you = Shift(filled, one, "me"), Shift(filled, one, "you")
    mine, yours = me.take(5), you.take(10_000)
    assert len(mine) + len(yours) == one.turns and not {row.id for row in mine} & {row.id for row in yours}
    stolen = {row.id: Score.valued("verifier", 9, "me") for row in yours}
    assert me.hand_in(stolen) == [] and me.standing().leased == one.turns
    assert me.give_back([row.id for row in mine]) == [row.id for row in mine] and me.standing().free == 5


def test_scorings_of_other_means_are_not_the_same(filled: Store) -> None:
    one = begun(filled)
    assert same_means(one, dict(OPTIONS)) and not same_means(one, {**OPTIONS, "code": "another"})


def test_turns_that_a_resume_takes_back_take_their_rows_along(filled: Store) -> None:
    one = begun(filled)
    taken = Shift(filled, one, "me").take(10_000)
    filled.resume_point("r1", lambda saved: saved.path.endswith("0"))
    left = rescore(filled, "r1", 1)
    assert left.turns < one.turns
    counted = Shift(filled, one, "me").hand_in({row.id: Score.valued("verifier", 1, "me") for row in taken})
    assert len(counted) == left.turns


def test_an_archive_takes_scorings_along(filled: Store, tmp_path: Path) -> None:
    handed_in(filled, begun(filled), new=lambda value: Score.valued("verifier", 1 - value, "test"))
    pack(filled, "r1", tmp_path / "out", {})
    with Store(tmp_path / "other.db") as other:
        (name,) = unpack(other, tmp_path / "out").values()
        theirs, ours = rescore(other, name, 1), rescore(filled, "r1", 1)
        assert theirs == ours and compared(other, theirs) == compared(filled, ours)


def test_deleting_the_run_deletes_its_scorings(filled: Store, file: Path) -> None:
    begun(filled)
    with filled._database.write() as connection:
        connection.exec_driver_sql("DELETE FROM runs")
    assert select_rows(filled, "SELECT (SELECT count(*) FROM rescores) + (SELECT count(*) FROM rescored)").rows == (
        (0,),
    )
