"""Several trainers in one run, schedules, references, training from stored episodes, and steps that go wrong."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sparring.envs.types import Pick
from sparring.scenarios.errors import EngineError, StoreError, TrainingStopped
from sparring.scenarios.load import from_resolved, load
from sparring.storage.queries import runs, select_rows
from sparring.storage.store import Store
from sparring.training import offline
from sparring.training.course import learner_for
from sparring.training.engines.embedded import TransformersEngine
from sparring.training.loop import learn
from sparring.training.plan import Plan
from sparring.training.policy import load_policy
from sparring.training.session import resume, start
from sparring.training.stages.base import Want

Run = Callable[..., Any]
StopAfter = Callable[[int], Callable[[], bool]]
ALL = "{sft: {keep: best, until: 2}, rl: {after: 1, advantage: gae, loss: ppo}, dpo: {every: 2, weight: 0.5}}"
PLAYED = "SELECT s.number, a.trainer, count(*) FROM advantages a JOIN steps s ON s.id = a.step_id GROUP BY 1, 2"


def test_trainers_take_turns_as_their_plan_says(run: Run) -> None:
    done = run("a", "training.steps=4", f"training.trainers={ALL}")
    taught = {(step, trainer) for step, trainer, _ in done.rows(PLAYED)}
    assert {step for step, trainer in taught if trainer == "sft"} == {1, 2}
    assert {step for step, trainer in taught if trainer == "rl"} == {2, 3, 4}
    assert {step for step, trainer in taught if trainer == "dpo"} <= {2, 4}
    assert "rl/value_error" in done.told[-1].figures or "rl/ratio" in done.told[-1].figures


def test_a_trainer_waits_for_the_figure_it_watches(run: Run) -> None:
    late = "{rl: {when: {metric: turns, at_least: 1}}, sft: {keep: best, when: {metric: turns, at_least: 1000000}}}"
    done = run("a", f"training.trainers={late}")
    assert {step for step, _, _ in done.rows(PLAYED)} == {2, 3}
    assert {trainer for _, trainer, _ in done.rows(PLAYED)} == {"rl"}


@pytest.mark.slow
def test_a_run_with_heads_schedules_and_several_trainers_resumes_to_the_same_end(
    run: Run, ran: Any, tmp_path: Path, stop_after: StopAfter
) -> None:
    more = (
        f"training.trainers={ALL}", "training.steps=4", "training.minibatches=2",
        "training.optimizer.lr={linear: {from: 1.0e-3, to: 1.0e-4}}",
        "roles.solver.weight={controller: {metric: entropy/solver, target: 1, gain: 0.1, from: 1, low: 0.5, high: 2}}",
    )  # fmt: skip
    whole = run("whole", *more)
    run("halted", *more, stop=stop_after(2))
    store = Store(tmp_path / "halted" / "sparring.db")
    point = store.resume_point("r1")
    rest = ran(resume(from_resolved(point.scenario), store, point))
    assert (rest.status, rest.hash, rest.weights) == ("done", whole.hash, whole.weights)
    pace = [one.figures["train/lr"] for one in whole.told if one.step]
    assert pace == pytest.approx([1e-3 - 0.9e-3 * step / 4 for step in (1, 2, 3, 4)])


@pytest.mark.slow
def test_a_reference_that_follows_the_policy_is_the_same_after_a_resume(
    run: Run, ran: Any, tmp_path: Path, stop_after: StopAfter
) -> None:
    more = (
        "training.loss={kind: grpo, kl: {coefficient: 0.1}}", "training.reference.every=2", "training.steps=4",
        "training.checkpoint.keep=1",
    )  # fmt: skip
    whole = run("whole", *more)
    run("halted", *more, stop=stop_after(3))
    store = Store(tmp_path / "halted" / "sparring.db")
    point = store.resume_point("r1")
    assert point.last_step == 3
    rest = ran(resume(from_resolved(point.scenario), store, point))
    assert rest.weights == whole.weights
    assert run("still", *more, "training.reference.every=0").weights != whole.weights


def test_a_reference_of_another_vocabulary_is_refused(scenario: Path, folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for file in folder.iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    text = json.loads((other / "tokenizer.json").read_text())
    words = text["model"]["vocab"]
    first, second = sorted(words)[:2]
    words[first], words[second] = words[second], words[first]
    (other / "tokenizer.json").write_text(json.dumps(text))
    made = load(scenario, (f"training.reference.model={other}", "training.loss={kind: grpo, kl: {coefficient: 0.1}}"))
    policy = load_policy(made.policy, made.base)
    with pytest.raises(EngineError, match=r"reference.model .* another vocabulary .* name a model with"):
        learner_for(policy, Plan.of(made, policy.renderer))


@pytest.fixture
def played(run: Run, tmp_path: Path) -> Path:
    """A database with a finished run r1."""
    run("played")
    return tmp_path / "played" / "sparring.db"


def studied(database: Path, scenario: Path, *overrides: str) -> tuple[str, str]:
    """Status and weights of a run that learns from r1."""
    with Store(database) as store:
        course = offline.start(load(scenario, overrides), store, "r1")
        status = offline.study(course)
        store.finish_run(course.run, status)
        return status, course.learner.weights_sha()


def test_stored_episodes_train_any_loss_without_an_engine(
    played: Path, scenario: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_: Any, **__: Any) -> None:
        raise AssertionError("an engine was made")

    monkeypatch.setattr(TransformersEngine, "__init__", none)
    trainers = ("{rl: {loss: topr, advantage: mean}}", "{sft: {keep: best}}", "{dpo: {}}", ALL)
    ended = [studied(played, scenario, f"training.trainers={trainer}", "training.steps=4") for trainer in trainers]
    assert [status for status, _ in ended] == ["done"] * 4
    assert len({weights for _, weights in ended}) == 4
    with Store(played) as store:
        query = "SELECT count(*) FROM advantages a JOIN turns t ON t.id = a.turn_id"
        (every,) = select_rows(store, query).rows[0]
        assert every > 100  # every pull of every run leads to the turn of r1 it was learnt from
        assert select_rows(store, "SELECT count(*) FROM episodes").rows[0][0] == 9


def test_offline_training_repeats_the_update_that_was_made_while_playing(played: Path, scenario: Path) -> None:
    with Store(played) as store:
        course = offline.start(load(scenario), store, "r1")
        course.stored = (1,)
        episodes, _ = course.episodes(1)
        lesson = course.update(course.follow(1), episodes, 1)
        stored = select_rows(
            store, "SELECT a.value, a.pull FROM advantages a JOIN steps s ON s.id = a.step_id WHERE s.number = 1"
        ).rows
    again = [number for row in lesson.advantages for number in (row.value, row.pull)]
    assert again == pytest.approx([number for row in stored for number in row])


def test_an_offline_run_resumes_to_the_same_end(played: Path, scenario: Path, stop_after: StopAfter) -> None:
    more = ("training.steps=5", "training.trainers={rl: {loss: topr, advantage: mean}}")
    _, whole = studied(played, scenario, *more)
    with Store(played) as store:
        course = offline.start(load(scenario, more), store, "r1")
        offline.study(course, stop=stop_after(1))
        store.finish_run(course.run, "stopped")
        point = store.resume_point(course.run)
        again = offline.resume(from_resolved(point.scenario), store, point, "r1")
        assert again.last_step == 2
        assert offline.study(again) == "done"
        assert again.learner.weights_sha() == whole


def test_an_offline_run_resumes_to_the_same_end_though_its_source_has_grown(
    run: Run, ran: Any, scenario: Path, tmp_path: Path, stop_after: StopAfter
) -> None:
    more = ("training.steps=5", "training.trainers={rl: {loss: topr, advantage: mean}}", "evaluation.every=0")
    run("grown", "training.steps=4", "evaluation.every=0", stop=stop_after(2))
    database = tmp_path / "grown" / "sparring.db"
    _, whole = studied(database, scenario, *more)
    with Store(database) as store:
        course = offline.start(load(scenario, more), store, "r1")
        offline.study(course, stop=stop_after(1))
        store.finish_run(course.run, "stopped")
    store = Store(database)
    point = store.resume_point("r1")
    assert ran(resume(from_resolved(point.scenario), store, point)).status == "done"
    with Store(database) as store:
        point = store.resume_point("r3")
        again = offline.resume(from_resolved(point.scenario), store, point, "r1")
        assert again.stored == (1, 2)
        assert offline.study(again) == "done" and again.learner.weights_sha() == whole


def test_a_run_without_episodes_cannot_be_learnt_from(played: Path, scenario: Path) -> None:
    with Store(played) as store:
        store.start_run("empty", {}, "digest", 0)
        with pytest.raises(StoreError, match="r2 holds no episode to learn from"):
            offline.start(load(scenario), store, "r2")
        assert {run.id for run in runs(store)} == {"r1", "r2"}


def poisoned(scenario: Path, database: Path, *overrides: str) -> tuple[Any, str]:
    """A run whose second step meets a reward that makes the loss overflow."""
    session = start(load(scenario, overrides), Store(database))
    inner, calls = session.learner.step, [0]

    def step(rows: Any, shapes: Any = None) -> Any:
        calls[0] += 1
        if calls[0] == 2:
            rows = [row.having(advantage=[value * math.inf for value in row.streams["advantage"]]) for row in rows]
        return inner(rows, shapes)

    session.learner.step = step  # type: ignore[method-assign]  # the overflow comes in between, on this learner alone
    return session, session.learner.weights_sha()


def test_a_loss_that_is_not_finite_stops_the_run_with_the_last_step_safe(scenario: Path, tmp_path: Path) -> None:
    session, _ = poisoned(scenario, tmp_path / "a.db")
    with pytest.raises(TrainingStopped, match=r"step 2: the loss 'rl' is .*not applied.*on_bad_step: skip"):
        asyncio.run(learn(session))
    assert session.last_step == 1
    session.close()


def test_a_loss_that_is_not_finite_can_be_skipped(scenario: Path, tmp_path: Path) -> None:
    session, _ = poisoned(scenario, tmp_path / "a.db", "training.on_bad_step=skip")
    shas: list[str] = []
    refused: list[Any] = []

    def watch(told: Any) -> None:
        shas.append(session.learner.weights_sha())
        refused.append(told.figures.get("train/refused"))

    assert asyncio.run(learn(session, watch)) == "done"
    assert refused[1:] == [0.0, 1.0, 0.0]
    assert shas[1] == shas[2] != shas[3]
    session.close()


def test_a_step_without_a_usable_reward_leaves_the_weights_and_says_so(run: Run) -> None:
    only = ("roles.solver.reward={broken: 1.0}", "roles.critic.trainable=false")
    done = run("a", "training.steps=1", *only)
    figures = done.told[-1].figures
    assert figures["train/tokens"] == 0 and figures["train/rows"] == 0
    assert figures["invalid/broken"] > 0
    assert done.weights == run("b", "training.steps=0").weights


def test_episodes_that_stages_ask_for_are_played_on_the_same_task(scenario: Path, tmp_path: Path) -> None:
    alone = (
        "graph={nodes: {solve: {role: solver, samples: 2}, verify: {do: step}}, edges: [solve -> verify]}",
        "roles={solver: {kind: plain, prompt: say.md, reward: [verifier], sampling: {max_tokens: 6}}}",
    )
    session = start(load(scenario, alone), Store(tmp_path / "a.db"))

    async def more() -> tuple[Any, Any]:
        picks = [Pick("length=1", {"length": 1}, 2)]
        first = await session.rollout.play(picks, 1)
        return first, await session.rollout.more([Want("again", 1, 2), Want("fresh", 0, 1)], picks, first, 1)

    first, extra = asyncio.run(more())
    assert [one.index for one in extra] == [2, 3, 4]
    assert [one.tasks[0].key for one in extra[:2]] == [first[1].tasks[0].key] * 2
    said = [turn.said for one in (first[1], *extra[:2]) for turn in one.turns if turn.author == "solver"]
    assert len(set(said)) > 1  # other samples, not the same ones again
    session.close()


def test_refills_and_rounds_end_and_their_pools_are_stored(run: Run) -> None:
    done = run(
        "a", "training.steps=2", "group.stages=[{kind: rounds, samples: 3, max_rounds: 2, keep: 2}]",
        "roles.critic.trainable=false",
    )  # fmt: skip
    pools = done.rows("SELECT size, pool_size FROM groups WHERE role = 'solver' AND node = 'solve'")
    assert pools and all(size <= pool for size, pool in pools)
    assert max(pool for _, pool in pools) > 3
