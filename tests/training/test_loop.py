"""Whole runs of a small policy in the echo environment: repeatable, resumable, open to roles nobody wrote code for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from sparring.scenarios.load import from_resolved
from sparring.storage.store import Store
from sparring.training.session import resume

Run = Callable[..., Any]
StopAfter = Callable[[int], Callable[[], bool]]


def test_one_seed_gives_one_run_and_another_gives_another(run: Run, unbroken: Any) -> None:
    first, second, other = unbroken, run("b"), run("c", "seed=6")
    assert (first.status, first.hash, first.weights) == ("done", second.hash, second.weights)
    assert other.hash != first.hash and other.weights != first.weights
    assert [told.step for told in first.told] == [0, 1, 2, 3]
    assert all(told.figures["train/gap"] < 1e-4 for told in first.told[1:])


def test_slots_and_workers_change_no_word(run: Run) -> None:
    query = "SELECT said FROM turns ORDER BY id"
    first = run("a", "training.steps=1").rows(query)
    assert run("b", "training.steps=1", "engine.slots=2", "rollout.workers=1").rows(query) == first


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("points", [("between checkpoint and rows",), ()], ids=["one", "all"])
def test_a_killed_run_ends_like_an_unbroken_one(scenario: Path, tmp_path: Path, points: tuple[str, ...]) -> None:
    driver = Path(__file__).with_name("driver.py")
    done = subprocess.run(
        [sys.executable, str(driver), str(scenario), str(tmp_path), *points], capture_output=True, text=True,
        check=False, env={**os.environ, "PYTHONSAFEPATH": "1", "TRANSFORMERS_VERBOSITY": "error"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert len(found) == (1 + len(points) if points else 10)
    assert {name: one for name, one in found.items() if one != found["unbroken"]} == {}


def test_a_stopped_run_goes_on_to_the_same_end(
    run: Run, unbroken: Any, ran: Any, tmp_path: Path, stop_after: StopAfter
) -> None:
    halted = run("halted", stop=stop_after(1))
    assert halted.status == "stopped" and len(halted.told) < 4
    store = Store(tmp_path / "halted" / "sparring.db")
    point = store.resume_point("r1")
    rest = ran(resume(from_resolved(point.scenario), store, point))
    assert (rest.status, rest.hash, rest.weights) == ("done", unbroken.hash, unbroken.weights)


FIFTH = {
    "roles.poet": '{"kind": "plain", "prompt": "judge.md", "reward": ["format", "brevity"],'
    ' "sampling": {"max_tokens": 4}}',
    "graph.nodes.rhyme": '{"role": "poet", "samples": 2}',
    "graph.edges": '["solve -> verify", "verify -> critique, rhyme", "critique -> revise"]',
}


def test_a_role_nobody_wrote_code_for_is_trained(run: Run) -> None:
    without, with_poet = run("a", "training.steps=1"), run("b", "training.steps=1", *overrides(FIFTH))
    rows = with_poet.rows("SELECT value FROM advantages WHERE role = 'poet'")
    assert rows and any(value for (value,) in rows)
    frozen = run("c", "training.steps=1", *overrides(FIFTH), "roles.poet.trainable=false")
    assert len({without.weights, with_poet.weights, frozen.weights}) >= 2 and frozen.weights != with_poet.weights


def overrides(changes: Mapping[str, str]) -> list[str]:
    return [f"{key}={value}" for key, value in changes.items()]


def test_a_failing_reward_is_masked_and_counted(run: Run) -> None:
    found = run("a", "training.steps=1", 'roles.critic.reward=["moody"]')
    invalid = found.told[-1].figures["invalid/moody"]
    assert invalid and invalid > 0
    critics = found.rows("SELECT count(*) FROM turns WHERE author = 'critic'")[0][0]
    assert found.rows("SELECT count(*) FROM advantages WHERE role = 'critic'") == [(critics - invalid,)]


PROPOSING = {
    "roles.teacher": '{"kind": "plain", "prompt": "ask.md", "reward": ["learnability"], "sampling": {"max_tokens": 3}}',
    "graph": '{"nodes": {"propose": {"role": "teacher"}, "admit": {"do": "admit"}, "solve": {"role": "solver"},'
    ' "verify": {"do": "step"}}, "edges": ["propose -> admit", "admit -> solve if accepted", "solve -> verify"]}',
    "rollout.episodes": "12",
    "training.steps": "2",
}


def test_refused_proposals_are_data(run: Run, scenario: Path) -> None:
    (scenario.parent / "ask.md").write_text("A word of {{ length }} letters")
    lines = scenario.read_text().splitlines(keepends=True)
    scenario.write_text("".join(line for line in lines if not line.startswith("  critic:")))
    found = run("a", *overrides(PROPOSING))
    assert found.status == "done"
    refused = found.rows("SELECT reason, count(*) FROM refusals GROUP BY reason")
    assert refused and sum(count for _, count in refused) <= 24
    assert any(name.startswith("refused/") for name in found.told[-1].figures)


def test_a_budget_ends_the_run_after_a_whole_step(run: Run) -> None:
    found = run("a", "budget.tokens=1")
    assert (found.status, [told.step for told in found.told]) == ("stopped", [0, 1])


def test_a_band_drops_groups_and_nothing_is_learned(run: Run) -> None:
    found = run("a", "training.steps=1", 'group.stages=[{"kind": "band", "low": 5, "high": 6}]')
    groups = found.rows("SELECT kept, note FROM groups")
    assert groups and all(not kept and "outside [5, 6]" in note for kept, note in groups)
    assert found.told[-1].figures["train/tokens"] == 0.0
    versions = found.rows("SELECT weights_sha FROM policy_versions")
    assert len(set(versions)) == 1


def resident() -> float:
    """Resident memory of this process in MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


SHORT = ("training.checkpoint.every=20", "evaluation.every=0", "graph.nodes.solve.samples=2", "rollout.episodes=2")


def growth(run: Run, steps: int, since: int) -> float:
    seen: dict[int, float] = {}

    def measured() -> bool:
        seen[len(seen)] = resident()
        return False

    run("a", f"training.steps={steps}", *SHORT, stop=measured)
    return seen[steps - 1] - seen[since]


@pytest.mark.slow
def test_memory_is_flat_over_sixty_steps(run: Run) -> None:
    assert growth(run, 60, 20) < 24


@pytest.mark.slow
def test_memory_is_flat_over_five_hundred_steps(run: Run) -> None:
    assert growth(run, 500, 100) < 40
