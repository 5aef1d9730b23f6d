"""Whole runs in which the environment changes along a schedule, speaks for a role, or deals with two seats."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from sparring.scenarios.load import from_resolved
from sparring.storage.store import Store
from sparring.training.session import resume

Run = Callable[..., Any]
ALONE = "roles={solver: {kind: plain, prompt: say.md, reward: [verifier, brevity], sampling: {max_tokens: 6}}}"
AGAIN = (
    "graph={nodes: {solve: {role: solver, samples: 3}, act: {do: step}, again: {role: solver}, last: {do: step}}, "
    "edges: [solve -> act, act -> again if unfinished, again -> last]}"
)
MORE_TRIES = "environment={kind: echo, tries: {steps: {0: 1, 3: 2}}}"
SHOWN = "roles.solver.demonstrated={steps: {0: 1.0, 3: 0.0}}"


def by_step(ran: Any, what: str) -> list[tuple[int, int]]:
    """How many turns of each training step are so."""
    query = (
        "SELECT s.number, count(*) FROM turns t JOIN episodes e ON e.id = t.episode_id "
        f"JOIN steps s ON s.id = e.step_id WHERE {what} GROUP BY s.number ORDER BY s.number"
    )
    return [(step, count) for step, count in ran.rows(query) if step]


def test_an_option_of_the_environment_follows_its_schedule(run: Run) -> None:
    made = run("a", ALONE, AGAIN, MORE_TRIES, "training.steps=3")
    assert [step for step, _ in by_step(made, "node = 'again'")] == [3]


def test_a_run_goes_on_in_the_environment_of_its_step(run: Run, ran: Any, tmp_path: Path, stop_after: Any) -> None:
    whole = run("whole", ALONE, AGAIN, MORE_TRIES, "training.steps=4")
    run("halted", ALONE, AGAIN, MORE_TRIES, "training.steps=4", stop=stop_after(3))
    store = Store(tmp_path / "halted" / "sparring.db")
    point = store.resume_point("r1")
    rest = ran(resume(from_resolved(point.scenario), store, point))
    assert (rest.status, rest.hash, rest.weights) == ("done", whole.hash, whole.weights)


def test_demonstrations_come_first_are_fine_tuned_on_and_stop(run: Run) -> None:
    trainers = "training.trainers={warmup: {kind: sft, keep: demonstrations, until: 2}, rl: {after: 2}}"
    made = run("a", SHOWN, trainers, "training.steps=3", "evaluation.every=3")
    assert [step for step, _ in by_step(made, "engine = 'demonstration'")] == [1, 2]
    assert {said for (said,) in made.rows("SELECT trainer FROM advantages WHERE weight > 0")} == {"warmup", "rl"}
    assert made.rows("SELECT count(*) FROM turns WHERE engine = 'demonstration' AND logprobs IS NULL") == [(0,)]
    assert made.status == "done" and all(told.figures["warmup/turns"] for told in made.told[1:3])


def test_a_step_of_demonstrations_reads_back_as_it_was_written(run: Run, ran: Any, tmp_path: Path) -> None:
    made = run("a", SHOWN, "training.steps=1")
    with Store(tmp_path / "a" / "sparring.db") as store:
        point = store.resume_point("r1")
    assert (point.last_step, made.status) == (1, "done")
    assert made.rows("SELECT DISTINCT engine FROM turns WHERE author = 'solver' AND episode_id IN "
                     "(SELECT id FROM episodes WHERE step_id IN (SELECT id FROM steps WHERE number = 1)) "
                     "AND node = 'solve'") == [("demonstration",)]  # fmt: skip
