"""Two sides of one update: TRL's trainers as they are installed, and our path from episodes to gradients.

Nothing of either is replaced. TRL gets fixed completions through its ``rollout_func`` and takes its own log-probs,
advantages and importance weights from them; then the policy moves, as after a first update, and both take a gradient.
"""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple, TypeVar

import pytest
import torch

from sparring.envs.types import Ending, Episode, Segment, Turn
from sparring.scenarios.schema import RoleSpec, Sampling, TrainingSpec
from sparring.storage.records import AdvantageRow
from sparring.training import tiny
from sparring.training.advantages.group import Grpo
from sparring.training.batch import Layout
from sparring.training.groups import Group, Member, Place
from sparring.training.learner import Learner
from sparring.training.losses.base import Loss
from sparring.training.model import Model
from sparring.training.pack import pack
from sparring.training.rows import START, Row

T = TypeVar("T")
PINNED = "1.16.0"
GROUP, PROMPTS = 4, ((70, 71, 72, 73, 74, 75), (80, 81, 82))
LONGEST = 12


class Attempt(NamedTuple):
    """One completion as alternating parts: what the model said, what a tool answered, what the model said then."""

    prompt: tuple[int, ...]
    parts: tuple[tuple[int, ...], ...]
    logprobs: tuple[float, ...]
    rewards: dict[str, float]

    @property
    def ids(self) -> list[int]:
        """All tokens after the prompt."""
        return [token for part in self.parts for token in part]

    @property
    def own(self) -> list[int]:
        """1 for the model's tokens, 0 for the tool's."""
        return [1 - at % 2 for at, part in enumerate(self.parts) for _ in part]


class Result(NamedTuple):
    """A loss and the gradient of every weight."""

    loss: float
    gradients: dict[str, torch.Tensor]


def gap(ours: Result, theirs: Result) -> tuple[float, float]:
    """Largest difference in the loss and in any gradient entry; the gradients must be there and not vanish."""
    assert ours.gradients.keys() == theirs.gradients.keys()
    assert max(float(entry.abs().max()) for entry in theirs.gradients.values()) > 1e-3
    apart = max(float((ours.gradients[name] - entry).abs().max()) for name, entry in theirs.gradients.items())
    return abs(ours.loss - theirs.loss), apart


@dataclass(frozen=True)
class World:
    """The policy that sampled (``start``), the one that is updated (``now``), the reference, and what was sampled."""

    folder: Path  # holds the reference
    start: dict[str, torch.Tensor]
    now: dict[str, torch.Tensor]
    attempts: Sequence[Attempt]

    def model(self, weights: Mapping[str, torch.Tensor] | None = None) -> Any:
        """The reference, or a policy with these weights."""
        from transformers import AutoModelForCausalLM

        made: Any = AutoModelForCausalLM.from_pretrained(self.folder)
        if weights is not None:
            made.load_state_dict(weights)
        return made.train()

    def without_tools(self) -> World:
        """The same with every token the model's own."""
        plain = [attempt._replace(parts=(tuple(attempt.ids),)) for attempt in self.attempts]
        return replace(self, attempts=plain)


@pytest.fixture(scope="session")
def trl() -> Any:
    """The pinned TRL; without it the tests are skipped, unless SPARRING_REQUIRE_TRL=1 makes that a failure."""
    if importlib.util.find_spec("trl") is None:
        said = f"TRL is not installed, so nothing was compared with it: pip install 'trl=={PINNED}'"
        if os.environ.get("SPARRING_REQUIRE_TRL") == "1":
            pytest.fail(said)
        pytest.skip(said)
    assert version("trl") == PINNED, f"the comparison is with trl {PINNED}; other versions differ in their defaults"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setenv("WANDB_MODE", "disabled")
        import trl

        for name in ("trl", "transformers", "accelerate", "datasets"):
            logging.getLogger(name).setLevel(logging.ERROR)
        yield trl


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Three nearby policies and eight completions of two prompts, with what an inexact engine said of them."""
    generator = torch.Generator().manual_seed(7)
    with pytest.MonkeyPatch.context() as patch:
        small = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "head_dim": 32}
        patch.setattr(tiny, "SHAPE", tiny.SHAPE | small)
        model: Any = tiny.build_model(0)
    for weight in model.parameters():
        weight.data += 0.05 * torch.randn(weight.shape, generator=generator)
    folder = tmp_path_factory.mktemp("reference")
    model.save_pretrained(folder)
    tiny.build_tokenizer().save_pretrained(folder)
    start = moved(model, 0.02, generator)
    now = moved(model, 0.02, generator)
    return World(folder, start, now, sampled(model, start, generator))


def moved(model: Any, by: float, generator: torch.Generator) -> dict[str, torch.Tensor]:
    """The weights of ``model`` after noise was added to them in place."""
    with torch.no_grad():
        for weight in model.parameters():
            weight += by * torch.randn(weight.shape, generator=generator)
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def sampled(model: Any, weights: Mapping[str, torch.Tensor], generator: torch.Generator) -> list[Attempt]:
    """Completions of different lengths with a tool's answer inside some; engine log-probs are off by some 0.3 nats."""
    model.load_state_dict(weights)
    found = []
    for number in range(GROUP * len(PROMPTS)):
        prompt = PROMPTS[number // GROUP]
        lengths = ((3, 2, 4), (5,), (2, 3, 5), (1, 1, 1, 2, 3))[number % GROUP]
        parts = [torch.randint(97, 123, (n,), generator=generator).tolist() for n in lengths]
        ids = [token for part in parts for token in part]
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([[*prompt, *ids]])).logits[0, len(prompt) - 1 : -1]
        exact = torch.log_softmax(logits, -1).gather(-1, torch.tensor(ids)[:, None])[:, 0]
        off = 0.3 * torch.randn(len(ids), generator=generator)
        rewards = {"right": float(number % 3 == 0), "brief": float(torch.rand((), generator=generator))}
        found.append(Attempt(prompt, tuple(map(tuple, parts)), tuple((exact + off).tolist()), rewards))
    return found


# -- TRL's side --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Theirs:
    """One GRPOTrainer run up to its gradient. ``bypass``: the ratio is taken to the engine's log-probs."""

    options: dict[str, Any] = field(default_factory=dict)
    bypass: bool = False

    def trainer(self, trl: Any, world: World, **options: Any) -> Any:
        """A GRPOTrainer whose completions are ``world.attempts``."""
        from datasets import Dataset
        from transformers import AutoTokenizer

        attempts = world.attempts
        corrected = options.get("vllm_importance_sampling_correction", False)
        settings = {"beta": 0.0, "num_iterations": 2, "vllm_importance_sampling_correction": False} | options
        tools = {"env_mask": [attempt.own for attempt in attempts]} if any(0 in a.own for a in attempts) else {}

        def rollout(prompts: Sequence[str], trainer: Any) -> dict[str, Any]:
            return {
                "prompt_ids": [list(attempt.prompt) for attempt in attempts],
                "completion_ids": [attempt.ids for attempt in attempts],
                "logprobs": [list(attempt.logprobs) for attempt in attempts],
                **tools,
            }

        made = trl.GRPOTrainer(
            world.model(world.start),
            [rewarding(attempts, name) for name in attempts[0].rewards],
            trl.GRPOConfig(**quiet(world), num_generations=GROUP, max_completion_length=LONGEST, **settings),
            Dataset.from_dict({"prompt": ["a", "b"]}),
            processing_class=AutoTokenizer.from_pretrained(world.folder),
            rollout_func=rollout,
        )
        made.use_vllm, made._last_loaded_step = corrected, 0  # no vLLM: its log-probs came with the rollout
        made.current_gradient_accumulation_steps = 1
        return made

    def __call__(self, trl: Any, world: World) -> Result:
        """Score at ``start``, move to ``now``, take the gradient."""
        trainer = self.trainer(trl, world, **self.options)
        inputs = trainer._generate_and_score_completions([{"prompt": "a"}] * len(world.attempts))
        if self.bypass:
            inputs["old_per_token_logps"] = inputs["sampling_per_token_logps"]
        trainer.model.load_state_dict(world.now)
        return taken(trainer.model, trainer._compute_loss(trainer.model, inputs))


def rewarding(attempts: Sequence[Attempt], name: str) -> Callable[..., list[float]]:
    """TRL's reward function: what was given."""

    def given(completions: Sequence[str], **rest: Any) -> list[float]:
        return [attempt.rewards[name] for attempt in attempts]

    return given


def quiet(world: World) -> dict[str, Any]:
    """Arguments of every TRL configuration here: CPU, float32, nothing written or reported."""
    return {
        "output_dir": str(world.folder / "out"), "report_to": [], "use_cpu": True, "bf16": False,
        "activation_checkpointing": False, "per_device_train_batch_size": len(world.attempts),
        "save_strategy": "no", "logging_strategy": "no", "disable_tqdm": True,
    }  # fmt: skip


def taken(model: Any, loss: torch.Tensor) -> Result:
    """The loss and its gradient."""
    loss.backward()
    return Result(float(loss.detach()), {name: weight.grad for name, weight in model.named_parameters()})


# -- our side ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ours:
    """Episodes to rows to micro-batches to a gradient, with one of our losses."""

    loss: Loss
    temperature: float = 1.0
    layout: Layout = "padded"

    def __call__(self, world: World, advantages: Sequence[float]) -> Result:
        """The gradient at ``now`` of completions with these advantages."""
        rows = started(self.rows(world, advantages), Model(world.model(world.start), layout=self.layout))
        return stepped(rows, {"policy": self.loss}, world, self.layout)

    def rows(self, world: World, advantages: Sequence[float]) -> list[Row]:
        """One episode per prompt; a tool's answer is the context of the turn after it."""
        roles = {"solver": RoleSpec(kind="plain", sampling=Sampling(temperature=self.temperature))}
        episodes = [episode(number, world.attempts) for number in range(len(PROMPTS))]
        credits = [
            AdvantageRow(at, turn.index, "solver", 0, None, values[turn.sample], 1.0, len(turn.token_ids), 0.0)
            for at, (played, values) in enumerate(zip(episodes, by_prompt(advantages), strict=True))
            for turn in played.turns
        ]
        return list(pack(episodes, credits, roles, {"policy": self.loss}).rows)


def by_prompt(values: Sequence[T]) -> list[Sequence[T]]:
    """One list per prompt."""
    return [values[at : at + GROUP] for at in range(0, len(values), GROUP)]


def episode(number: int, attempts: Sequence[Attempt]) -> Episode:
    """The group of prompt ``number`` as an episode: every attempt is a chain of turns from the root."""
    turns: list[Turn] = []
    for sample, attempt in enumerate(attempts[number * GROUP : (number + 1) * GROUP]):
        heard, follows, said = attempt.prompt, None, list(attempt.logprobs)
        for at, part in enumerate(attempt.parts):
            logprobs, said = tuple(said[: len(part)]), said[len(part) :]
            if at % 2:
                heard = part
                continue
            turns.append(
                Turn(
                    len(turns), follows, "solve", "solver", "", sample, follows,
                    Segment("", heard), token_ids=part, logprobs=logprobs,
                )
            )  # fmt: skip
            follows = turns[-1].index
    return Episode(number, number, {}, tuple(turns), (), {}, {}, {}, Ending.DONE)


def started(rows: Sequence[Row], model: Model) -> list[Row]:
    """Rows with the log-probs of the policy before the step, scored through our own batches."""
    found: dict[int, Row] = {}
    for batch in model.batches(rows, 64):
        with torch.no_grad():
            columns = model.score(batch).logprob_N.split(batch.counts)
        for row, column in zip(batch.rows, columns, strict=True):
            stream = [0.0] * len(row.token_ids)
            for at, value in zip(row.trained, column.tolist(), strict=True):
                stream[at] = value
            found[id(row)] = row.having(**{START: stream})
    return [found[id(row)] for row in rows]


def stepped(rows: Sequence[Row], losses: Mapping[str, Loss], world: World, layout: Layout = "padded") -> Result:
    """What one step of our learner over several micro-batches leaves in the gradients; its weights hardly move."""
    spec = TrainingSpec.model_validate(
        {"optimizer": {"kind": "sgd", "lr": 1e-30}, "max_grad_norm": 1e30, "micro_batch_tokens": 48}
    )
    module = world.model(world.now)
    update = Learner(Model(module, layout=layout), losses, spec, reference=Model(world.model())).step(rows)
    return Result(update.figures["train/loss"], {name: weight.grad for name, weight in module.named_parameters()})


@pytest.fixture(scope="session")
def differ(trl: Any, world: World, groups: list[Group]) -> Callable[..., tuple[float, float]]:
    """``differ(TRL's options, our loss)``: largest gap in loss and in gradient between the two sides of one update.

    ``tools``: whether a tool's answers stand inside some completions. ``temperature`` is ours if it is not TRL's.
    """
    advantages = [value for values in Grpo()(groups) for value in values]

    def measured(
        options: Mapping[str, Any],
        loss: Loss,
        *,
        tools: bool = True,
        bypass: bool = False,
        temperature: float | None = None,
        layout: Layout = "padded",
    ) -> tuple[float, float]:
        played = world if tools else world.without_tools()
        theirs = Theirs(dict(options), bypass)(trl, played)
        ours = Ours(loss, options.get("temperature", 1.0) if temperature is None else temperature, layout)
        return gap(ours(played, advantages), theirs)

    return measured


@pytest.fixture(scope="session")
def groups(world: World) -> list[Group]:
    """The completions as our groups, one per prompt; the reward is the sum of its components."""
    members = [
        Member(Place(at // GROUP, at % GROUP), sum(attempt.rewards.values()), attempt.rewards, len(attempt.ids))
        for at, attempt in enumerate(world.attempts)
    ]
    return [Group.of("solver", "solve", str(at), part) for at, part in enumerate(by_prompt(members))]


@pytest.fixture(scope="session")
def sides() -> SimpleNamespace:
    """The pieces above, for trainers of TRL's other than GRPO's."""
    return SimpleNamespace(
        attempt=Attempt,
        gap=gap,
        ours=Ours,
        quiet=quiet,
        rewarding=rewarding,
        stepped=stepped,
        taken=taken,
        theirs=Theirs,
    )
