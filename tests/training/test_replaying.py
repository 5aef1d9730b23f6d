"""The parts of a replay: the engine that says what was recorded, the run's own refusals, differences, schedules."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.training.fake_openai import Body, FakeOpenAI, Reply, completion
from typer.testing import CliRunner

from sparring.agents.engine import ByteRenderer, Request
from sparring.agents.replay import NOT_RECORDED, RecordedEngine, recorded_filter
from sparring.envs.types import Finish, Refusal, Score, Task, Turn
from sparring.scenarios.load import load
from sparring.scenarios.schema import Sampling
from sparring.storage.differences import differences, same
from sparring.storage.queries import select_rows
from sparring.storage.samples import sample_step
from sparring.storage.store import Store
from sparring.training.cli import app
from sparring.training.replaying import moment
from sparring.training.session import start


def asked(turn: Turn, **more: Any) -> Request:
    return replace(Request((1,), Sampling(), turn.seed, turn.author), **more)


@pytest.fixture
def episode() -> Any:
    """A made-up episode whose turns have seeds of their own and the tokens of what they said."""
    made = sample_step(1, episodes=1).episodes[0]
    ids = {turn.index: tuple(turn.said.encode()) for turn in made.turns}
    turns = [
        turn.amended(seed=7 + turn.index, token_ids=ids[turn.index], logprobs=(-1.0,) * len(ids[turn.index]))
        for turn in made.turns
    ]
    return replace(made, turns=tuple(turns))


def test_the_engine_says_what_was_recorded_token_by_token(episode: Any) -> None:
    turns = [turn for turn in episode.turns if turn.author != "environment"]
    engine = RecordedEngine([episode], ByteRenderer())
    said = asyncio.run(engine.generate([asked(turn) for turn in reversed(turns)]))
    assert [one.token_ids for one in said] == [turn.token_ids for turn in reversed(turns)]
    assert {one.text for one in said} == {None}  # decoded anew, not taken from the record


def test_words_that_are_not_the_tokens_own_are_taken_from_the_record(episode: Any) -> None:
    turn = next(turn for turn in episode.turns if turn.author != "environment")
    remote = replace(episode, turns=(turn.amended(said="said by an API"),))
    (said,) = asyncio.run(RecordedEngine([remote], ByteRenderer()).generate([asked(turn)]))
    assert said.text == "said by an API"


def test_a_place_where_nobody_spoke_ends_its_branch_and_says_so(episode: Any) -> None:
    turn = next(turn for turn in episode.turns if turn.author != "environment")
    engine = RecordedEngine([episode], ByteRenderer())
    for request in (asked(turn, seed=0), asked(turn, tag="nobody")):
        (said,) = asyncio.run(engine.generate([request]))
        assert said.finish is Finish.ABORT and said.error == NOT_RECORDED


def test_a_task_is_let_in_once_as_the_run_did(episode: Any) -> None:
    own, late, held = (Task("code", {"program": name}) for name in ("own", "late", "held"))
    told = (Refusal("duplicate", "seen"), Refusal("reserved", "held out"))
    stored = replace(episode, tasks=(own,), refusals=dict(enumerate(told)))
    decide = recorded_filter(stored, lambda key: key == late.key)
    assert [decide(task) for task in (own, own, late, held)] == [None, told[0], told[0], told[1]]


def test_an_episode_does_not_differ_from_itself(episode: Any) -> None:
    assert differences(episode, episode) == []


CHANGES: dict[str, Callable[[Any], Any]] = {
    "turn": lambda e: replace(e, turns=e.turns[:-1]),
    "said": lambda e: replace(e, turns=(e.turns[0].amended(said="x"), *e.turns[1:])),
    "seed": lambda e: replace(e, turns=(e.turns[0].amended(seed=1), *e.turns[1:])),
    "reward extra": lambda e: replace(e, scores={**e.scores, 0: (Score.valued("extra", 1, "me"),)}),
    "ending": lambda e: replace(e, ending="refused"),
    "task 0": lambda e: replace(e, tasks=()),
    "refusal reason": lambda e: replace(e, refusals={0: Refusal("odd")}),
    "parameters": lambda e: replace(e, parameters={"depth": 99}),
}


@pytest.mark.parametrize("field", CHANGES)
def test_every_kind_of_change_is_named(episode: Any, field: str) -> None:
    assert field in {difference.field for difference in differences(episode, CHANGES[field](episode))}


@pytest.mark.parametrize(("note", "counts"), [("value", True), ("validity", True), ("note", False), ("by", False)])
def test_only_numbers_and_whether_they_count_are_differences_of_rewards(episode: Any, note: str, counts: bool) -> None:
    index, (score, *rest) = next(iter(episode.scores.items()))
    score = Score.valued(score.name, 0.5, "me", "why")
    odd: dict[str, Any] = {"value": 0.25, "validity": "invalid", "note": "because", "by": "you"}
    one, other = (
        replace(episode, scores={**episode.scores, index: (new, *rest)})
        for new in (score, replace(score, **{note: odd[note]}))
    )
    (found,) = differences(one, other)
    assert (found.turn, found.rewards) == (index, counts)


def test_minus_zero_is_not_zero_byte_for_byte() -> None:
    assert not same(0.0, -0.0) and not same(0.1 + 0.2, 0.3) and same(float("nan"), float("nan"))


def test_a_judge_behind_a_server_is_not_asked_again(
    scenario: Path, ran: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def says(body: Body) -> Body | Reply:
        if body["seed"] % 3 == 0:  # this one is lost, and its branch with it
            return Reply.error(500, "out of order")
        return completion(f"<verdict>{('right', 'wrong')[body['seed'] % 2]}</verdict>")

    monkeypatch.setenv("JUDGE_KEY", "k")
    with FakeOpenAI(says, models=["judge-1"], key="k") as server:
        told = {"kind": "openai", "url": server.url, "model": "judge-1", "api_key_env": "JUDGE_KEY", "retries": 0}
        role = {"trainable": False, "reward": {"verdict": 1.0}, "engine": told}
        overrides = [f"roles.critic.{key}={json.dumps(value)}" for key, value in role.items()]
        start_of = start(
            load(scenario, ["training.steps=1", "rollout.max_broken=1.0", *overrides]), Store(tmp_path / "judged.db")
        )
        assert ran(start_of).status == "done" and server.chats > 0
    monkeypatch.delenv("JUDGE_KEY")
    done = CliRunner().invoke(app, ["replay", "r1", "--json", "--db", str(tmp_path / "judged.db")])
    found = json.loads(done.stdout)
    assert done.exit_code == 0 and found["byte_equal"] == found["episodes"] == 3
    with Store(tmp_path / "judged.db") as store:
        ends = select_rows(store, "SELECT finish, count(*) FROM turns WHERE author = 'critic' GROUP BY 1").rows
    assert {finish for finish, _ in ends} == {"abort", "stop"}


def test_scheduled_numbers_are_those_of_the_step(scenario: Path) -> None:
    rising = "training.optimizer.lr={linear: {of: step, after: 1, over: 2, from: 0.0, to: 1.0}}"
    found = load(scenario, [rising])
    assert [moment(found, step, {}).training.optimizer.lr for step in (1, 2, 3)] == [0.0, 0.5, 1.0]
    plain = load(scenario)
    assert moment(plain, 3, {}) is plain
