"""Episodes played by OpenAI's own client are stored as they were sampled, whole, and can be trained on."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import openai
import pytest

from sparring.envs.types import Ending, Episode, Validity
from sparring.scenarios.errors import StorageFull
from sparring.scenarios.load import load
from sparring.storage import queries
from sparring.storage.store import Store
from sparring.training.offline import start, study
from sparring.training.serve.served import Served
from sparring.training.serve.source import of_scenario

ASK = {"role": "user", "content": "Say a word"}


def play(behind: Any, key: str, turns: int = 1, model: str = "policy") -> list[dict[str, Any]]:
    """A conversation of some turns, each answered with one more question; what the client holds at its end."""
    client, held = behind.openai(key), [ASK]
    for number in range(turns):
        answer = client.chat.completions.create(model=model, messages=held, max_tokens=20)
        held = [*held, {"role": "assistant", "content": answer.choices[0].message.content}]
        if number < turns - 1:
            held.append({"role": "user", "content": f"and then? {number}"})
    return held


def stored(behind: Any, step: int = 1) -> list[Episode]:
    recorder = behind.recorder
    found = queries.stored_episodes(recorder.store, recorder.run, range(step, step + 1))
    return [one.episode for one in found]


def end(behind: Any, key: str, **told: Any) -> Any:
    return behind.post(f"/episodes/{key}/end", told or {"scores": {"verifier": 1.0}})


def test_a_conversation_is_stored_with_the_tokens_that_were_sampled(recording: Any, fresh: Callable[..., Any]) -> None:
    opened = recording.post("/episodes", {"task": {"text": "a word"}, "parameters": {"length": 1}})
    assert opened["base_url"] == f"{recording.url}/v1"
    play(recording, opened["key"], turns=4)
    told = end(recording, opened["key"])
    assert told == {"episode": "r1/1/0", "turns": 4, "forks": 0, "waiting": 0}
    episode = stored(recording)[0]
    assert [turn.follows for turn in episode.turns] == [None, 0, 1, 2]
    model = recording.served.policy.model
    prompt: tuple[int, ...] = ()
    for turn in episode.turns:
        assert turn.context is not None and turn.author == "solver"
        prompt += turn.context.token_ids
        logprob_TV = fresh(model, prompt + turn.token_ids)
        there = [float(logprob_TV[len(prompt) + at, token]) for at, token in enumerate(turn.token_ids)]
        assert there == pytest.approx(turn.logprobs, abs=1e-4)
        prompt += turn.token_ids
    assert episode.scores[3][0].value == 1.0 and set(episode.scores) == {3}
    assert dict(episode.tasks[0].payload) == {"text": "a word"} and dict(episode.parameters) == {"length": 1}


def test_many_clients_at_once_are_each_recorded_exactly(recording: Any, fresh: Callable[..., Any]) -> None:
    keys = recording.post("/episodes", {"count": 6})["keys"]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda key: play(recording, key, turns=3), keys))
        told = list(pool.map(lambda key: end(recording, key), keys))
    assert sorted(one["waiting"] for one in told) == [0, 1, 2, 3, 4, 5]
    for episode in stored(recording):
        prompt: tuple[int, ...] = ()
        for turn in episode.turns:
            assert turn.context is not None
            prompt += turn.context.token_ids
            logprob_TV = fresh(recording.served.policy.model, prompt + turn.token_ids)
            there = [float(logprob_TV[len(prompt) + at, token]) for at, token in enumerate(turn.token_ids)]
            assert there == pytest.approx(turn.logprobs, abs=1e-4)
            prompt += turn.token_ids
    seeds = [turn.seed for episode in stored(recording) for turn in episode.turns]
    assert len(set(seeds)) == 18


class FullOnce(Store):
    """A store whose disk is full the first time."""

    full = True

    def save_step(self, run: str, record: Any) -> None:
        if self.full:
            self.full = False
            raise StorageFull("no space left; free some")
        super().save_step(run, record)


@pytest.mark.slow
def test_an_episode_that_could_not_be_stored_is_stored_when_asked_again(
    alone: Served, serve: Callable[..., Any], tmp_path: Path
) -> None:
    with FullOnce(tmp_path / "sparring.db") as store:
        behind = serve(alone, store=store, record=True)
        key = behind.post("/episodes", {})["key"]
        play(behind, key, turns=2)
        assert "free some" in behind.refused(f"/episodes/{key}/end", {"scores": {"verifier": 1.0}}, 500)
        assert end(behind, key) == {"episode": "r1/1/0", "turns": 2, "forks": 0, "waiting": 0}
        assert len(stored(behind)) == 1


def test_an_altered_history_is_a_context_of_its_own_and_is_counted(recording: Any) -> None:
    key = recording.post("/episodes", {})["key"]
    held = play(recording, key, turns=2)
    held[1] = {"role": "assistant", "content": "something else altogether"}
    client = recording.openai(key)
    client.chat.completions.create(model="policy", messages=[*held, ASK], max_tokens=5)
    assert end(recording, key)["forks"] == 1
    episode = stored(recording)[0]
    assert [turn.follows for turn in episode.turns] == [None, 0, None]
    assert recording.http.get("/episodes").json() == {"run": "r1", "open": 0, "stored": 1, "forks": 1}
    figures = queries.steps(recording.recorder.store, "r1")[0].metrics
    assert figures["forks"] == 1 and figures["turns"] == 3


def test_n_choices_are_samples_of_one_prompt(recording: Any) -> None:
    key = recording.post("/episodes", {})["key"]
    client = recording.openai(key)
    answer = client.chat.completions.create(model="policy", messages=[ASK], max_tokens=6, n=3)
    assert [choice.model_extra["turn"] for choice in answer.choices] == [0, 1, 2]
    told = [{"role": "assistant", "content": answer.choices[1].message.content}, ASK]
    client.chat.completions.create(model="policy", messages=[ASK, *told], max_tokens=6)
    end(recording, key, scores=[{"verifier": 0.0}, {"verifier": 1.0}, None, {"verifier": None}])
    episode = stored(recording)[0]
    assert [(turn.parent, turn.sample) for turn in episode.turns[:3]] == [(None, 0), (None, 1), (None, 2)]
    assert episode.turns[3].follows == 1
    assert episode.scores[3][0].validity is Validity.INVALID


def test_a_stream_is_recorded_too(recording: Any) -> None:
    key = recording.post("/episodes", {})["key"]
    chunks = recording.openai(key).chat.completions.create(model="policy", messages=[ASK], max_tokens=9, stream=True)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    end(recording, key)
    assert stored(recording)[0].turns[0].said == text


def test_episodes_opened_together_are_one_step_once_the_last_has_ended(recording: Any) -> None:
    keys = recording.post("/episodes", {"task": {"text": "x"}, "count": 3})["keys"]
    for key in keys:
        play(recording, key)
    assert [end(recording, key)["waiting"] for key in keys[:2]] == [2, 1]
    assert recording.recorder.run == ""
    assert end(recording, keys[2])["episode"] == "r1/1/2"
    assert end(recording, keys[0])["episode"] == "r1/1/0"  # asked again, told again
    assert len(stored(recording)) == 3
    several = recording.post("/episodes", {"episodes": [{"task": {"text": "a"}}, {"task": {"text": "b"}, "count": 2}]})
    assert [len(one["keys"]) for one in several["episodes"]] == [1, 2]


def test_recorded_episodes_are_trained_on_offline(recording: Any, tmp_path: Path) -> None:
    keys = recording.post("/episodes", {"task": {"text": "x"}, "count": 4})["keys"]
    for reward, key in enumerate(keys):
        play(recording, key, turns=2)
        end(recording, key, scores={"verifier": reward % 2})
    recorder = recording.recorder
    scenario = recording.served.scenario
    with Store(recorder.store.path) as store, closing(start(scenario, store, "r1")) as course:
        before = course.learner.weights_sha()
        assert course.stored == (1,)
        told: list[Any] = []
        study(course, told.append, lambda: True)
        assert told[0].figures["train/tokens"] > 0
        assert course.learner.weights_sha() != before


def test_an_ended_or_unknown_key_is_no_key(recording: Any) -> None:
    key = recording.post("/episodes", {})["key"]
    play(recording, key)
    end(recording, key)
    for one in (key, "episode-made-up"):
        with pytest.raises(openai.AuthenticationError, match="open one with POST /episodes"):
            play(recording, one)
    assert recording.http.post("/episodes/episode-made-up/end", json={}).status_code == 401


def test_an_episodes_key_opens_nothing_else(recording: Any) -> None:
    key = recording.post("/episodes", {})["key"]
    headers = {"authorization": f"Bearer {key}"}
    assert recording.http.post("/pause", headers=headers).status_code == 401
    assert recording.http.get("/v1/models", headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"role": "nobody"}, "role"),
        ({"task": "text"}, "task"),
        ({"count": 0}, "count"),
        ({"tasks": {}}, "tasks"),
        ({"episodes": []}, "episodes"),
    ],
)
def test_an_opening_that_says_something_else_is_refused(recording: Any, body: Any, field: str) -> None:
    assert field in recording.refused("/episodes", body, 400)
    assert recording.http.get("/episodes").json()["open"] == 0


@pytest.mark.parametrize("scores", [{"verifier": "good"}, [1.0], {"verifier": [1]}, "1"])
def test_scores_that_are_no_numbers_are_refused_and_the_episode_stays_open(recording: Any, scores: Any) -> None:
    key = recording.post("/episodes", {})["key"]
    play(recording, key)
    assert "scores" in recording.refused(f"/episodes/{key}/end", {"scores": scores}, 400)
    assert end(recording, key)["episode"] == "r1/1/0"


def test_recorded_turns_are_sampled_as_they_are_trained(recording: Any) -> None:
    key = recording.post("/episodes", {})["key"]
    client = recording.openai(key)
    with pytest.raises(openai.BadRequestError, match=r"-s roles\.solver\.sampling\.temperature=0\.5"):
        client.chat.completions.create(model="policy", messages=[ASK], temperature=0.5)
    with pytest.raises(openai.BadRequestError, match="made of messages"):
        client.completions.create(model="policy", prompt="a")


def test_a_server_that_does_not_record_says_how_it_would(server: Any) -> None:
    assert "--record" in server.refused("/episodes", {}, 409)


def test_roles_are_named_by_the_model(scenario: Path, serve: Callable[..., Any], tmp_path: Path) -> None:
    served: Served = of_scenario(str(scenario), [])
    with Store(tmp_path / "recorded.db") as store:
        behind = serve(served, store=store, record=True)
        key = behind.post("/episodes", {})["key"]
        play(behind, key)
        client = behind.openai(key)
        client.chat.completions.create(model="policy:critic", messages=[{"role": "user", "content": "right?"}])
        end(behind, key, scores=[{"verifier": 1.0}, {"brevity": 0.5}])
        turns = stored(behind)[0].turns
        assert [(turn.author, turn.parent) for turn in turns] == [("solver", None), ("critic", 0)]
        assert len(turns[1].token_ids) <= 5  # the critic's own budget
        assert store.run("r1").name == load(scenario).name


def test_what_was_not_ended_is_stored_as_broken_and_said(
    alone: Served, serve: Callable[..., Any], tmp_path: Path
) -> None:
    from sparring.training.serve.app import Door, build
    from sparring.training.serve.listen import background
    from sparring.training.serve.recording import Recorder

    told: list[str] = []
    with Store(tmp_path / "sparring.db") as store:
        recorder = Recorder(alone, store)
        with background(build(alone, Door(), recorder, store, told.append)) as url:
            import httpx

            keys = httpx.post(f"{url}/episodes", json={"count": 2}).json()["keys"]
            httpx.post(f"{url}/episodes", json={})
            client = openai.OpenAI(base_url=f"{url}/v1", api_key=keys[0], max_retries=0)
            client.chat.completions.create(model="policy", messages=[ASK], max_tokens=4)  # type: ignore[list-item]  # a dict is read too
            client.close()
        found = [one.episode for one in queries.stored_episodes(store, "r1", range(1, 2))]
        assert [(one.ending, len(one.turns)) for one in found] == [(Ending.BROKE, 1), (Ending.BROKE, 0)]
        assert store.run("r1").status == "done"
    alone.close()
    assert any("stored as broken" in line for line in told) and any("are dropped: 1" in line for line in told)


def test_no_key_is_in_the_database_or_a_log(
    alone: Served, serve: Callable[..., Any], tmp_path: Path, caplog: Any, capfd: Any
) -> None:
    from sparring.training.serve.app import Door

    caplog.set_level(logging.DEBUG)
    with Store(tmp_path / "sparring.db") as store:
        behind = serve(alone, Door(key="server-secret"), store=store, record=True)
        behind.http.headers["authorization"] = "Bearer server-secret"
        key = behind.post("/episodes", {"task": {"text": "a"}})["key"]
        play(behind, key)
        end(behind, key)
        with pytest.raises(openai.AuthenticationError):
            play(behind, "server-guess")
        said = caplog.text + "".join(capfd.readouterr()) + "".join(behind.told) + repr(behind.recorder)
        rows = b"".join(file.read_bytes() for file in tmp_path.glob("sparring.db*"))
    mine = [line for line in said.splitlines() if not line.startswith("DEBUG    httpc")]
    for secret in (key, "server-secret"):
        assert secret.encode() not in rows
        assert not [line for line in mine if secret in line and "openai" not in line and "httpx" not in line]
