"""A policy of 64 numbers per token, rows and episodes made by hand: what the tests of ``training`` stand on."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from sparring.envs.types import Ending, Episode, Score, Segment, Turn
from sparring.scenarios.load import load
from sparring.storage.queries import run_hash, select_rows
from sparring.storage.store import Store
from sparring.training import tiny
from sparring.training.course import Told
from sparring.training.engines.embedded import TransformersEngine
from sparring.training.engines.render import ChatRenderer
from sparring.training.loop import learn
from sparring.training.rows import Row
from sparring.training.session import Session, start

UNITS = itertools.count()
SMALL = tiny.SHAPE | {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "head_dim": 32}


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Small tensors are faster on one thread, and the machine may be shared."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def make_model(seed: int = 0) -> Any:
    """A small Qwen3 whose next-token distributions are far from uniform and which ends a turn now and then."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiny, "SHAPE", SMALL)
        model: Any = tiny.build_model(seed).eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.mul_(6.0)
        model.model.embed_tokens.weight[tiny.SPECIALS.index(tiny.END) + 256] *= 3.0
    return model


@pytest.fixture
def new_model() -> Callable[..., Any]:
    """``new_model(seed)``: a fresh small model."""
    return make_model


@pytest.fixture
def model() -> Any:
    """A fresh small model."""
    return make_model()


@pytest.fixture(scope="session")
def renderer() -> ChatRenderer:
    """The built-in tokenizer's renderer."""
    return ChatRenderer(tiny.build_tokenizer())


@pytest.fixture
def engine(model: Any, renderer: ChatRenderer) -> TransformersEngine:
    """The embedded engine on ``model``."""
    return TransformersEngine(model, renderer.stop_ids)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder as a user would have it."""
    where = tmp_path_factory.mktemp("policy")
    make_model().save_pretrained(where)
    tiny.build_tokenizer().save_pretrained(where)
    return where


def fresh_logprobs(model: Any, token_ids: Sequence[int], temperature: float = 1.0) -> torch.Tensor:
    """(T, V) log-probs of a plain forward: entry t is the distribution the token at t was drawn from."""
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([list(token_ids)]), use_cache=False).logits[0].float() / temperature
    return torch.cat([torch.full((1, logits.shape[1]), float("nan")), torch.log_softmax(logits, -1)[:-1]])


@pytest.fixture
def fresh() -> Callable[..., torch.Tensor]:
    """``fresh(model, token_ids, temperature)``: log-probs (T, V) of a plain Hugging Face forward."""
    return fresh_logprobs


def make_row(context: int, said: int, advantage: float, role: str = "solver", **more: Any) -> Row:
    """``context`` tokens read, then ``said`` trained ones, the last of which ends the turn."""
    ids = [(7 * at + context) % 250 for at in range(context + said - 1)] + [260]
    share = more.get("share", 1.0 / said)
    streams = {
        "advantage": [0.0] * context + [advantage] * said,
        "logprob_old": [0.0] * context + [more.get("old", float("nan"))] * said,
    }
    temperature, unit = more.get("temperature", 1.0), more.get("unit", next(UNITS))
    return Row(role, ids, [0.0] * context + [share] * said, streams, temperature, unit=unit)


@pytest.fixture
def row() -> Callable[..., Row]:
    """``row(context, said, advantage)``: one conversation to train on."""
    return make_row


def make_episode(
    turns: Sequence[Mapping[str, Any]], rewards: Mapping[int, float | Score], index: int = 0, pick: int = 0
) -> Episode:
    """Turns given by parent, author, node and number of tokens; rewards by turn, under the name ``r``."""
    made = tuple(
        Turn(
            at,
            turn.get("parent"),
            turn.get("node", turn["author"]),
            turn["author"],
            "said",
            context=Segment("", (1, 2, 3)),
            follows=turn.get("follows"),
            task=turn.get("task"),
            token_ids=(5,) * turn.get("tokens", 1),
            logprobs=(-1.0,) * turn.get("tokens", 1),
        )
        for at, turn in enumerate(turns)
    )
    scores = {
        at: (reward if isinstance(reward, Score) else Score.valued("r", reward, "test"),)
        for at, reward in rewards.items()
    }
    return Episode(index, pick, {}, made, (), scores, {}, {}, Ending.DONE)


@pytest.fixture
def episode() -> Callable[..., Episode]:
    """``episode(turns, rewards, index, pick)``: a hand-made tree."""
    return make_episode


ECHO = """
name: echo
seed: 5
policy: {{model: {folder}, dtype: float32}}
engine: {{kind: transformers, slots: 16}}
environment: echo
load: [{parts}]
roles:
  solver: {{kind: plain, prompt: say.md, reward: {{verifier: 1.0, brevity: 1.0}}, sampling: {{max_tokens: 6}}}}
  critic: {{kind: critic, prompt: judge.md, reward: [brevity], sampling: {{max_tokens: 5}}}}
graph:
  nodes:
    solve: {{role: solver, samples: 3}}
    verify: {{do: step}}
    critique: {{role: critic, samples: 2, pick: all, at_most: 2}}
    revise: {{role: solver}}
  edges: [solve -> verify, verify -> critique, critique -> revise]
curriculum: {{kind: sec, arms: {{length: [1, 2]}}}}
rollout: {{episodes: 3, picks: 2}}
training: {{steps: 3, optimizer: {{lr: 1.0e-3}}}}
evaluation: {{every: 2, tasks: 3, metrics: [accuracy, "pass@2"]}}
"""
PARTS = '''
from sparring.envs.types import Score
from sparring.scenarios.registry import rewards

@rewards("brevity")
def brevity(episode, turn, context):
    """Less said, more earned."""
    return Score.valued("brevity", -len(turn.token_ids) / 10, "test")

@rewards("broken")
def broken(episode, turn, context):
    """Never works."""
    return Score.invalid("broken", "test", "out of order")

@rewards("moody")
def moody(episode, turn, context):
    """Fails on every other turn."""
    return Score.valued("moody", turn.token_ids[0] / 100 if turn.index % 2 else 1 / 0, "test")
'''


@pytest.fixture(scope="session")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's file of rewards; one for all tests, since a name can be taken once."""
    file = tmp_path_factory.mktemp("parts") / "parts.py"
    file.write_text(PARTS)
    return file


def write_scenario(where: Path, folder: Path, parts: Path) -> Path:
    """The scenario's file, beside its prompts."""
    (where / "say.md").write_text("Say {{ text }}")
    (where / "judge.md").write_text("{{ text }} {{ last }}?")
    file = where / "echo.yaml"
    file.write_text(ECHO.format(folder=folder, parts=parts))
    return file


@pytest.fixture
def scenario(folder: Path, parts: Path, tmp_path: Path) -> Path:
    """The scenario's file in a folder of the test's own."""
    return write_scenario(tmp_path, folder, parts)


class Ran:
    """A finished run: how it ended, its hash, its weights, and its rows."""

    def __init__(self, session: Session, **more: Any) -> None:
        self.told: list[Told] = []
        self.status = asyncio.run(learn(session, self.told.append, **more))
        session.store.finish_run(session.run, self.status)
        self.hash, self.weights = run_hash(session.store, session.run), session.learner.weights_sha()
        self.path = session.store.path
        session.close()

    def rows(self, query: str) -> list[Any]:
        assert self.path is not None
        with Store(self.path) as store:
            return list(select_rows(store, query).rows)


@pytest.fixture
def run(scenario: Path, tmp_path: Path) -> Callable[..., Ran]:
    """``run(name, *overrides)``: a whole run in a database of its own."""

    def whole(name: str, *overrides: str, **more: Any) -> Ran:
        (tmp_path / name).mkdir()
        return Ran(start(load(scenario, overrides), Store(tmp_path / name / "sparring.db")), **more)

    return whole


@pytest.fixture(scope="session")
def unbroken(folder: Path, parts: Path, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """The scenario's run as it is, once for all who compare with it; only read."""
    where = tmp_path_factory.mktemp("unbroken")
    return Ran(start(load(write_scenario(where, folder, parts)), Store(where / "sparring.db")))


@pytest.fixture
def stop_after() -> Callable[[int], Callable[[], bool]]:
    """``stop_after(n)``: a ``stop`` that says yes from its n + 1st question on."""

    def counted(looks: int) -> Callable[[], bool]:
        asked = itertools.count()
        return lambda: next(asked) >= looks

    return counted


@pytest.fixture
def ran() -> type[Ran]:
    """``ran(session)``: that run, finished."""
    return Ran
