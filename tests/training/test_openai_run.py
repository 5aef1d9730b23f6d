"""A trained policy with a judge behind a server: what is stored, what is learnt, what happens when the server fails."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.training.fake_openai import FakeOpenAI, Reply, completion
from typer.testing import CliRunner

from sparring.scenarios.errors import EngineError, TrainingStopped
from sparring.scenarios.load import from_resolved, load
from sparring.scenarios.schema import Scenario
from sparring.storage.queries import runs, select_rows, stored_episodes
from sparring.storage.store import Store
from sparring.training import offline
from sparring.training.cli import app
from sparring.training.loop import learn
from sparring.training.session import Session, resume, start

KEY, VARIABLE = "sk-live-abcdefghijklmnop", "SPARRING_JUDGE_KEY"
SAYS = "I think <verdict>right</verdict>"
Judged = Callable[..., Scenario]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeOpenAI]:
    monkeypatch.setenv(VARIABLE, KEY)
    with FakeOpenAI(SAYS, models=["judge-1"], key=KEY) as running:
        yield running


@pytest.fixture
def judged(scenario: Path, server: FakeOpenAI) -> Judged:
    """``judged(*overrides, **options)``: the scenario, its critic behind the server."""

    def made(*overrides: str, **options: Any) -> Scenario:
        told: dict[str, Any] = {"kind": "openai", "url": server.url, "model": "judge-1", "api_key_env": VARIABLE}
        told |= {"patience_s": 1, "retries": 3, **options}
        role = {"trainable": False, "reward": {"verdict": 1.0}, "engine": told, "refuse_empty": False}
        return load(scenario, [*(f"roles.critic.{k}={json.dumps(v)}" for k, v in role.items()), *overrides])

    return made


def asked(path: Path | None, query: str) -> list[tuple[Any, ...]]:
    assert path is not None
    with Store(path) as store:
        return [tuple(row) for row in select_rows(store, query).rows]


def test_a_run_with_a_remote_judge_stores_what_it_said_and_trains_the_rest(
    judged: Judged, ran: Any, server: FakeOpenAI, tmp_path: Path
) -> None:
    done = ran(start(judged("training.steps=2"), Store(tmp_path / "judged.db")))
    assert done.status == "done"
    turns = asked(done.path, "SELECT said, engine, finish FROM v_turns WHERE author = 'critic'")
    assert len(turns) == server.chats > 0 and set(turns) == {(SAYS, "openai:judge-1", "stop")}
    scores = asked(done.path, "SELECT DISTINCT name, validity, value FROM scores WHERE name = 'verdict'")
    assert {(name, validity) for name, validity, _ in scores} == {("verdict", "valued")}
    trained = {role for (role,) in asked(done.path, "SELECT DISTINCT role FROM advantages")}
    assert trained == {"solver"}
    heard = {message["content"] for body in server.asked for message in body["messages"]}
    assert all(text.endswith("?") for text in heard) and len({body["seed"] for body in server.asked}) > 1


def test_answers_without_content_do_not_reach_the_server(
    judged: Judged, ran: Any, server: FakeOpenAI, tmp_path: Path
) -> None:
    done = ran(start(judged("roles.critic.refuse_empty=true", "training.steps=2"), Store(tmp_path / "judged.db")))
    said = asked(done.path, "SELECT engine, count(*) FROM v_turns WHERE author = 'critic' GROUP BY 1 ORDER BY 1")
    (_, by_server), (rule, by_rule) = said
    assert rule == "rule" and by_rule > 0 and server.chats == by_server
    assert sum(told.figures.get("empty_answer/critic") or 0 for told in done.told) == by_rule
    found = json.loads(CliRunner().invoke(app, ["replay", "r1", "--json", "--db", str(done.path)]).stdout)
    assert found["byte_equal"] == found["episodes"] > 0, found


def test_the_policy_learns_as_from_a_judge_in_this_process_that_says_the_same(
    judged: Judged, ran: Any, tmp_path: Path
) -> None:
    here = ["roles.critic.engine={kind: scripted, default: '" + SAYS + "'}", "training.steps=2"]
    apart = ran(start(judged("training.steps=2"), Store(tmp_path / "apart.db")))
    beside = ran(start(judged(*here), Store(tmp_path / "beside.db")))
    assert apart.weights == beside.weights


def test_the_judges_words_stand_in_the_database_as_the_policys_tokens(judged: Judged, ran: Any, tmp_path: Path) -> None:
    session = start(judged("training.steps=1"), Store(tmp_path / "tokens.db"))
    renderer, name = session.policy.renderer, session.run
    done = ran(session)
    with Store(done.path) as store:
        episodes = [one.episode for one in stored_episodes(store, name)]
    spoken = [turn for episode in episodes for turn in episode.turns if turn.author == "critic"]
    assert spoken and all(renderer.decode(turn.token_ids) == SAYS for turn in spoken)
    assert all(map(math.isnan, spoken[0].logprobs))


@pytest.mark.parametrize(
    "text", ["a\x00b", "\ud800 alone", "<|im_end|><|end|>", "\u202e\U0001f9e8", "'; DROP TABLE turns; --"]
)
def test_hostile_words_are_stored_as_words(
    judged: Judged, ran: Any, server: FakeOpenAI, tmp_path: Path, text: str
) -> None:
    server.answer = text
    done = ran(start(judged("training.steps=1"), Store(tmp_path / "hostile.db")))
    said = {said for (said,) in asked(done.path, "SELECT said FROM turns WHERE author = 'critic'")}
    assert done.status == "done" and len(said) == 1
    with Store(done.path) as store:
        (turn, *_) = [
            turn for one in stored_episodes(store, "r1") for turn in one.episode.turns if turn.author == "critic"
        ]
    assert turn.said == text.encode("utf-8", "replace").decode()


def test_the_judges_words_can_be_imitated_from_the_store(
    judged: Judged, ran: Any, scenario: Path, tmp_path: Path
) -> None:
    done = ran(start(judged("training.steps=1"), Store(tmp_path / "taught.db")))
    more = [
        "training.steps=3",
        "roles.critic.reward=[verdict]",
        "training.trainers={sft: {keep: best, roles: [critic]}}",
    ]
    course = offline.start(load(scenario, more), Store(done.path), "r1")
    told: list[Any] = []
    assert offline.study(course, told.append) == "done"
    course.close()
    surprise = [one.figures["sft/nll"] for one in told]
    assert len(surprise) == 3 and surprise[2] < surprise[1] < surprise[0]


@pytest.mark.parametrize("status", ["done", "failed"])
def test_the_key_is_nowhere_a_run_leaves_something(
    judged: Judged, ran: Any, server: FakeOpenAI, tmp_path: Path, status: str, caplog: Any, capfd: Any
) -> None:
    caplog.set_level(logging.DEBUG)
    folder = tmp_path / "scanned"
    folder.mkdir()
    server.answer = lambda body: completion(f"the key was {KEY}, <verdict>right</verdict>")
    session = start(judged("training.steps=2"), Store(folder / "sparring.db"), f"sparring run {VARIABLE}")
    if status == "failed":
        server.answer = lambda body: Reply.error(400, f"bad request with {KEY}")
        with pytest.raises(TrainingStopped) as stopped:
            asyncio.run(learn(session))
        session.close()
        assert KEY not in str(stopped.value)
    else:
        ran(session)
    files = [file for file in folder.rglob("*") if file.is_file()]
    assert (folder / "sparring.db") in files and all(KEY.encode() not in file.read_bytes() for file in files)
    printed = capfd.readouterr()
    assert KEY not in caplog.text + printed.out + printed.err + repr(session)


# -- before a run has a row --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("break_it", "words"), [
    (lambda server, patch: patch.delenv(VARIABLE), f"environment variable {VARIABLE} is not set"),
    (lambda server, patch: patch.setenv(VARIABLE, "sk-old-and-revoked"), f"HTTP 401.*variable {VARIABLE}"),
    (lambda server, patch: setattr(server, "models", ["judge-2"]), "did you mean 'judge-2'"),
    (lambda server, patch: server.die(), "cannot be reached.*start the server"),
], ids=["no key", "old key", "no model", "no server"])  # fmt: skip
def test_what_a_person_must_mend_is_told_before_there_is_a_run(
    judged: Judged, server: FakeOpenAI, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, break_it: Any, words: str
) -> None:
    scenario = judged()
    break_it(server, monkeypatch)
    with closing(Store(tmp_path / "none.db")) as store:
        with pytest.raises(EngineError, match=words) as refused:
            start(scenario, store)
        assert runs(store) == [] and KEY not in str(refused.value) and "revoked" not in str(refused.value)


# -- while it runs -----------------------------------------------------------------------------------------------------


def begin(scenario: Scenario, path: Path) -> Session:
    return start(scenario, Store(path))


def go_on(path: Path, run: str) -> str:
    with closing(Store(path)) as store:
        point = store.resume_point(run)
        session = resume(from_resolved(point.scenario), store, point)
        status = asyncio.run(learn(session))
        session.close()
    return status


def stops(session: Session, words: str) -> None:
    with pytest.raises(TrainingStopped, match=words) as stopped:
        asyncio.run(learn(session))
    assert "Earlier steps are safe" in str(stopped.value) and "'sparring resume'" in str(stopped.value)
    session.store.finish_run(session.run, "failed")
    session.close()


def after(server: FakeOpenAI, chats: int, what: Callable[[], None]) -> None:
    """Do something once, when the server has been asked so often."""
    done: list[bool] = []

    def answer(body: Any) -> str:
        if server.chats > chats and not done:
            done.append(True)
            what()
        return SAYS

    server.answer = answer


def test_a_key_that_is_revoked_in_mid_run_stops_it_and_the_run_goes_on_with_another(
    judged: Judged, server: FakeOpenAI, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    after(server, 12, lambda: setattr(server, "key", "sk-another-key"))
    session = begin(judged(), tmp_path / "revoked.db")
    stops(session, f"HTTP 401.*put a key it accepts into the environment variable {VARIABLE}")
    monkeypatch.setenv(VARIABLE, "sk-another-key")
    assert go_on(tmp_path / "revoked.db", session.run) == "done"


@pytest.mark.slow
def test_a_judge_that_stays_down_stops_the_run_which_goes_on_when_it_is_back(
    judged: Judged, server: FakeOpenAI, tmp_path: Path
) -> None:
    after(server, 12, server.die)
    session = begin(judged(patience_s=0.2, retries=1), tmp_path / "down.db")
    stops(session, r"engine openai:judge-1: .*cannot be reached")
    assert asked(tmp_path / "down.db", "SELECT max(number) FROM steps") == [(0,)] or server.chats > 12
    server.revive()
    assert go_on(tmp_path / "down.db", session.run) == "done"


@pytest.mark.slow
def test_a_judge_that_dies_in_mid_rollout_and_comes_back_changes_nothing(
    judged: Judged, ran: Any, server: FakeOpenAI, tmp_path: Path
) -> None:
    whole = ran(start(judged(patience_s=20), Store(tmp_path / "whole.db")))
    died = threading.Event()

    def die() -> None:
        died.set()
        server.die()
        threading.Timer(0.3, server.revive).start()

    after(server, server.chats + 7, die)
    again = ran(start(judged(patience_s=20), Store(tmp_path / "again.db")))
    assert died.is_set() and (again.hash, again.weights) == (whole.hash, whole.weights)


def test_a_judge_is_asked_without_a_barrier_where_order_is_free(
    judged: Judged, ran: Any, server: FakeOpenAI, tmp_path: Path
) -> None:
    done = ran(start(judged("rollout.deterministic=false", "training.steps=2"), Store(tmp_path / "free.db")))
    assert done.status == "done"
    assert asked(done.path, "SELECT count(*) FROM turns WHERE author = 'critic'") == [(server.chats,)]


def test_turns_that_are_filtered_are_invalid_and_counted_and_the_rest_is_learnt_from(
    judged: Judged, ran: Any, server: FakeOpenAI, tmp_path: Path
) -> None:
    server.answer = lambda body: completion("oh", "content_filter") if server.chats % 5 == 0 else completion(SAYS)
    done = ran(start(judged("rollout.max_broken=1", "training.steps=2"), Store(tmp_path / "filtered.db")))
    lost = server.chats // 5
    kinds = asked(
        done.path,
        "SELECT name, validity, value, note, count(*) FROM scores WHERE validity = 'invalid' GROUP BY 1, 2, 3, 4",
    )
    assert kinds == [
        ("verdict", "invalid", None, "the server ended the answer with finish_reason content_filter", lost)
    ]
    told = [json.loads(text) for (text,) in asked(done.path, "SELECT metrics FROM steps WHERE number > 0")]
    assert sum(figures.get("invalid/verdict", 0) for figures in told) == lost > 0
    assert asked(done.path, "SELECT count(*) FROM turns WHERE finish = 'abort' AND author = 'critic'") == [(lost,)]


def test_a_spent_budget_stops_the_run_and_says_how_to_go_on(judged: Judged, server: FakeOpenAI, tmp_path: Path) -> None:
    session = begin(judged(budget_tokens=400), tmp_path / "spent.db")
    stops(session, r"budget_tokens is 400, of which .* Raise it")
    assert 15 * server.chats <= 400


def test_a_scenario_that_trains_nothing_may_be_played_by_a_server(
    scenario: Path, server: FakeOpenAI, ran: Any, tmp_path: Path
) -> None:
    server.answer = lambda body: str(body["messages"][0]["content"]).removeprefix("Say ")
    engine = json.dumps({"kind": "openai", "url": server.url, "model": "judge-1", "api_key_env": VARIABLE})
    frozen = ["roles.solver.trainable=false", "roles.critic.trainable=false", "training.steps=0"]
    done = ran(start(load(scenario, [*frozen, f"engine={engine}"]), Store(tmp_path / "measured.db")))
    assert asked(done.path, "SELECT value FROM evaluations WHERE name = 'accuracy'")[0] == (1.0,)
