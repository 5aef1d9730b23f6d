"""Words of models, wherever they stand, stay words on every page."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from sparring.envs.types import Episode, Pick, Refusal, Score
from sparring.storage.records import StepRecord
from sparring.storage.samples import sample_step
from sparring.storage.store import Store

BAD = "\"'><script>alert(1)</script>{{7*7}}\x00\x1b\u202e\ud800"
PAGES = (
    "/runs/r1/steps/0", "/runs/r1/steps/0/episodes/0", "/runs/r1/steps/0/episodes/1", "/runs/r1/tasks",
    "/runs/r1/tasks/{key}", "/runs/r1/rubrics", "/runs/r1/steps/0/episodes/0/rubrics/2", "/runs/r1/lineage",
    "/runs/r1/lineage?episode=0/0&turn=3", "/runs/r1/lineage?task={key}", "/diff?a=r1/0/0&b=r1/0/1",
    "/compare?runs=r1", "/compare?runs=%3Cscript%3E", "/diff?a=%3Cscript%3E&b=%3Cscript%3E",
    "/runs/r1/tasks/%3Cscript%3E", "/runs/r1/lineage?task=%3Cscript%3E", "/runs/%3Cscript%3E/tasks",
    "/runs/r1/steps/0/episodes/0?shade=%3Cscript%3E&turn=%3Cscript%3E", "/runs/r1/tasks?after=%3Cscript%3E",
)  # fmt: skip


def _score(score: Score) -> Score:
    items = tuple(replace(item, by=BAD, quote=BAD) for item in score.criteria)
    return replace(score, name=score.name + BAD, by=BAD, note=BAD, criteria=items)


def _episode(episode: Episode) -> Episode:
    keys = {task.key: "k" + task.key for task in episode.tasks}
    tasks = tuple(
        replace(task, environment=BAD, payload={BAD: BAD}, secret={BAD: BAD}, skills=(BAD,), origin=BAD, operator=BAD,
                key=keys[task.key], parent=keys.get(task.parent or ""))
        for task in episode.tasks
    )  # fmt: skip
    turns = tuple(
        turn.amended(said=BAD + turn.said, node=turn.node + BAD, author=turn.author + BAD, engine=BAD, addressee=BAD,
                     task=keys.get(turn.task or ""))
        for turn in episode.turns
    )  # fmt: skip
    rubrics = {
        turn: replace(rubric, provenance=BAD, criteria=tuple(replace(one, text=BAD) for one in rubric.criteria))
        for turn, rubric in episode.rubrics.items()
    }
    return replace(
        episode, turns=turns, tasks=tasks, rubrics=rubrics, parameters={BAD: BAD}, error=BAD,
        scores={turn: tuple(map(_score, given)) for turn, given in episode.scores.items()},
        refusals={turn: Refusal(BAD, BAD) for turn in episode.refusals},
    )  # fmt: skip


def _step() -> StepRecord:
    step = sample_step(0, episodes=3)
    return replace(
        step,
        picks=tuple(Pick(BAD + pick.arm, {BAD: BAD}, pick.count) for pick in step.picks),
        episodes=tuple(map(_episode, step.episodes)),
        groups=tuple(replace(group, role=BAD, node=BAD, scope=BAD, note=BAD) for group in step.groups),
        advantages=tuple(replace(row, role=row.role + BAD, note=BAD) for row in step.advantages),
        metrics={BAD: 1.0},
        curriculum_state={BAD: BAD},
        evaluations=tuple(replace(one, name=BAD, parameters={BAD: BAD}) for one in step.evaluations),
    )


@pytest.fixture
def hostile(ask: Any, tmp_path: Path) -> TestClient:
    """A reader of a database in which every word is hostile."""
    with Store(tmp_path / "h.db") as store:
        store.start_run(BAD, {"name": BAD, "roles": {BAD: {}}, BAD: BAD}, "digest", 0)
        store.save_step("r1", _step())
    reader: TestClient = ask(tmp_path / "h.db")
    return reader


@pytest.mark.parametrize("page", PAGES)
def test_no_word_of_a_model_becomes_markup(hostile: TestClient, page: str) -> None:
    path = page.format(key=_step().episodes[0].tasks[1].key)
    answer = hostile.get(path)
    assert answer.status_code in (200, 404), path
    body = answer.text.split("<main")[1]
    assert "<script" not in body and "{{7*7}}49" not in body
    assert not {"\x00", "\x1b", "\u202e"} & set(body)
    assert (
        answer.status_code == 404
        or "json"
        in hostile.get(path.replace("?", ".json?", 1) if "?" in path else path + ".json").headers["content-type"]
    )
