"""Opponents from the run's own past: which versions play, that their checkpoints stay, that a resume is the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sparring.agents.engine import Request
from sparring.scenarios.errors import EngineError
from sparring.scenarios.load import from_resolved, load
from sparring.scenarios.schema import Sampling
from sparring.storage.store import Store
from sparring.training.engines.past import PastEngine
from sparring.training.session import resume, start

KUHN = """
name: past
seed: 3
policy: {{model: {folder}, dtype: float32}}
engine: {{kind: transformers, slots: 8}}
environment: kuhn
roles:
  first:
    kind: plain
    prompt: game/brief
    reward: [verifier]
    compare: baseline
    discount: 1.0
    sampling: {{max_tokens: 2}}
  second:
    kind: plain
    prompt: game/brief
    trainable: false
    sampling: {{max_tokens: 2}}
    engine: {{kind: past, every: 2, keep: 2, current: {current}}}
graph: two-seats
curriculum: {{kind: random, arms: {{begins: [second]}}}}
rollout: {{episodes: 12, picks: 1}}
training: {{steps: 6, optimizer: {{lr: 1.0e-2}}, checkpoint: {{keep: 1}}}}
evaluation: {{every: 3, metrics: [exploitability, illegal]}}
"""
SPOKE = """
SELECT DISTINCT s.number, p.number FROM turns t JOIN episodes e ON e.id = t.episode_id
JOIN steps s ON s.id = e.step_id JOIN policy_versions p ON p.id = t.policy_version_id
WHERE t.author = 'second' ORDER BY 1, 2
"""


@pytest.fixture
def begin(folder: Path, tmp_path: Path) -> Callable[..., Any]:
    """``begin(name, overrides)``: a run of a game whose second seat is a past self."""

    def made(name: str, *overrides: str, current: float = 0.3) -> Any:
        where = tmp_path / name
        where.mkdir()
        file = where / "past.yaml"
        file.write_text(KUHN.format(folder=folder, current=current))
        return start(load(file, overrides), Store(where / "sparring.db"))

    return made


def test_the_newest_stored_versions_play_once_there_are_any(begin: Any) -> None:
    engine = begin("a").rollout.runtime.engines["second"].inner
    assert [engine.versions(step) for step in (0, 1, 2, 5, 6, 9)] == [[], [], [2], [2, 4], [4, 6], [6, 8]]


def test_turns_name_the_version_that_spoke_and_its_checkpoint_stays(begin: Any, ran: Any, tmp_path: Path) -> None:
    done = ran(begin("a"))
    spoke: dict[int, set[int]] = {}
    for step, version in done.rows(SPOKE):
        spoke.setdefault(step, set()).add(version)
    assert (spoke[1], spoke[2], spoke[3]) == ({0}, {1}, {2})
    assert {2} <= spoke[4] <= {2, 3} and {2, 4} == spoke[5] and {2, 4} <= spoke[6] <= {2, 4, 5}
    kept = {folder.name for folder in (tmp_path / "a" / "checkpoints" / "r1").glob("step-*")}
    assert kept == {"step-000004", "step-000006"}


@pytest.mark.slow
def test_a_resumed_run_meets_the_same_opponents(begin: Any, ran: Any, tmp_path: Path, stop_after: Any) -> None:
    whole = ran(begin("whole"))
    ran(begin("halted"), stop=stop_after(5))
    store = Store(tmp_path / "halted" / "sparring.db")
    point = store.resume_point("r1")
    rest = ran(resume(from_resolved(point.scenario), store, point))
    assert (rest.status, rest.hash, rest.weights) == ("done", whole.hash, whole.weights)


def test_a_stored_version_answers_as_the_policy_did_then(begin: Any, ran: Any) -> None:
    session = begin("a", current=0.0)
    requests = [Request((65, 66, 67), Sampling(max_tokens=6), seed) for seed in range(8)]
    engine = session.rollout.runtime.engines["second"].inner
    before = session.engine.sample(requests)
    session.save_checkpoint(2, session.learner.weights_sha())
    for weight in session.policy.model.parameters():
        weight.data.mul_(1.5)
    session.engine.policy_version = 2
    then = engine._of(2).sample(requests)
    assert [one.token_ids for one in then] == [one.token_ids for one in before]
    assert {one.policy_version for one in then} == {2}
    assert [one.token_ids for one in session.engine.sample(requests)] != [one.token_ids for one in before]
    session.close()


def test_it_is_an_engine_for_a_role_alone() -> None:
    with pytest.raises(EngineError, match="under roles"):
        PastEngine(PastEngine.Config())
