"""Turns that are trained in a later step than the one that sampled them: every one leads back by foreign key."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from sparring.envs.types import Pick
from sparring.scenarios.errors import StoreError
from sparring.scenarios.load import from_resolved, load
from sparring.storage import queries
from sparring.storage.lineage import why
from sparring.storage.records import AdvantageRow, StepRecord
from sparring.storage.samples import sample_step
from sparring.storage.store import Store
from sparring.training import offline
from sparring.training.curriculum.base import Outcome
from sparring.training.earlier import settle
from sparring.training.learner import Learner
from sparring.training.loop import observe
from sparring.training.plan import Plan
from sparring.training.rows import Row
from sparring.training.session import resume

StopAfter = Callable[[int], Callable[[], bool]]

LATER = (
    "training.trainers={sft: {keep: all, at: 4}, replay: {keep: all, rows: 3}}", "training.steps=4",
    "training.checkpoint.every=1", "evaluation.every=0",
)  # fmt: skip
TAUGHT = (
    "SELECT m.number, a.trainer, a.note, s.number, t.token_ids, a.n_tokens, t.author = a.role "
    "FROM advantages a JOIN steps m ON m.id = a.step_id JOIN turns t ON t.id = a.turn_id "
    "JOIN episodes e ON e.id = t.episode_id JOIN steps s ON s.id = e.step_id "
    "WHERE a.weight > 0 AND m.run_id = (SELECT max(id) FROM runs) ORDER BY a.id"
)


def row(episode: int, turn: int = 0, **more: Any) -> AdvantageRow:
    return AdvantageRow(episode, turn, "solver", 0, 1.0, 1.0, more.pop("weight", 1.0), 2, 0.5, **more)


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[Sequence[Row]]:
    """What the learner was given, update by update."""
    seen: list[Sequence[Row]] = []
    inner = Learner.step

    def step(self: Learner, rows: Sequence[Row], *more: Any, **named: Any) -> Any:
        seen.append(rows)
        return inner(self, rows, *more, **named)

    monkeypatch.setattr(Learner, "step", step)
    return seen


def test_every_trained_row_leads_to_its_turn(run: Callable[..., Any], trained: list[Sequence[Row]]) -> None:
    done = run("a", *LATER)
    taught = done.rows(TAUGHT)
    assert {note for _, _, note, *_ in taught} == {"", "waited", "replayed"}
    assert all(mine for *_, mine in taught)
    for step, rows in enumerate(trained, 1):
        for trainer in ("sft", "replay"):
            lengths = sorted(n for made, name, _, _, _, n, _ in taught if (made, name) == (step, trainer))
            assert lengths == sorted(len(one.trained) for one in rows if one.loss == trainer)
    assert all(made > played for made, _, note, played, *_ in taught if note)
    assert done.rows("PRAGMA foreign_key_check") == []


def test_why_names_the_turns_that_waited(run: Callable[..., Any]) -> None:
    done = run("a", *LATER)
    with Store(done.path) as store:
        roles = [role for step in range(2, 5) for role in why(store, "r1", step, limit=99).roles]
        turns = [turn for role in roles for turn in role.turns if turn.entered in ("waited", "replayed")]
        assert {turn.entered for turn in turns} == {"waited", "replayed"}
        for turn in turns:
            assert queries.episode(store, "r1", turn.episode).turns[turn.turn].said == turn.said
            assert turn.pull > 0 and turn.group.note.startswith(f"{turn.entered} since step ")


def test_a_run_that_resumes_between_keeping_and_training_ends_the_same(
    run: Callable[..., Any], ran: Any, tmp_path: Path, stop_after: StopAfter
) -> None:
    whole = run("whole", *LATER)
    run("halted", *LATER, stop=stop_after(2))
    store = Store(tmp_path / "halted" / "sparring.db")
    point = store.resume_point("r1")
    assert point.last_step == 2 and point.state["trainers"]["replay"]["kept"]
    rest = ran(resume(from_resolved(point.scenario), store, point))
    assert (rest.status, rest.hash, rest.weights) == ("done", whole.hash, whole.weights)


def test_a_run_that_reads_borrows_each_episode_once(run: Callable[..., Any], scenario: Path) -> None:
    done = run("played", "training.steps=2")
    with Store(done.path) as store:
        course = offline.start(load(scenario, (*LATER, "training.steps=6")), store, "r1")
        assert offline.study(course) == "done"
        taught = queries.select_rows(store, TAUGHT).rows
        assert {note for _, _, note, *_ in taught} >= {"waited", "replayed"}
        assert max(step.borrowed for step in queries.steps(store, course.run)) > 3  # of a stored step read earlier
        assert queries.select_rows(store, "PRAGMA foreign_key_check").rows == ()


def test_one_turn_met_twice_has_one_record_with_the_pull_of_both() -> None:
    rows = [row(0, weight=0.0, note="waits"), row(1), row(2, note="waited"), row(3, note="waited"), row(4, 5)]
    done = settle(rows, 2, (10, 11), (10, 12, 12))
    assert done.borrowed == (12,)
    assert [(one.episode, one.turn, one.weight, one.pull, one.note) for one in done.advantages] == [
        (0, 0, 1.0, 1.0, "waited"), (1, 0, 1.0, 0.5, ""), (2, 0, 1.0, 0.5, "waited"), (2, 5, 1.0, 0.5, ""),
    ]  # fmt: skip


def test_positions_count_played_episodes_and_then_borrowed_ones() -> None:
    with Store.memory() as store:
        store.start_run("sample", {}, "digest", 0)
        store.save_step("r1", sample_step(0, episodes=2))
        first = [one.id for one in queries.stored_episodes(store, "r1")]
        store.start_run("reads", {}, "other", 0)
        store.save_step("r2", StepRecord(1, borrowed=(first[1], first[0])))
        assert queries.episode_ids(store, "r1", [(0, 1), (0, 0), (0, 1)]) == [first[1], first[0], first[1]]
        assert queries.episode_ids(store, "r2", [(1, 0)]) == [first[1]]
        with pytest.raises(StoreError, match="r2, step 1: no episode at position 2"):
            queries.episode_ids(store, "r2", [(1, 2)])


def test_turns_of_earlier_steps_say_nothing_of_this_steps_picks() -> None:
    class Told:
        role = None

        def __init__(self) -> None:
            self.curriculum, self.plan = self, Plan(cast(Any, None), None, [])
            self.seen: list[tuple[str, float | None, float | None, int]] = []

        def observe(self, pick: Pick, outcome: Outcome) -> None:
            self.seen.append((pick.arm, outcome.signal, outcome.reward, outcome.episodes))

        def weights(self) -> dict[str, float]:
            return {"easy": 1.0}

    told: Any = Told()
    observe(told, [Pick("easy", {}, 1)], [row(0), row(1, note="waited")], [0])
    observe(told, [Pick("easy", {}, 1)], [row(1, note="waited")], [0])
    assert told.seen == [("easy", 1.0, 1.0, 1), ("easy", None, None, 1)]
