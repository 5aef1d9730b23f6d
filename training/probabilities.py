"""The policy's exact probabilities of given answers, from the prompts it sees in play: no sampling, no estimate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import exp, fsum
from typing import TYPE_CHECKING, Any

from sparring.agents.book import ENVIRONMENT
from sparring.agents.engine import Renderer, spoken
from sparring.agents.role import Heard, Role, View
from sparring.envs.types import Position
from sparring.scenarios.errors import ScenarioError

from .lora import Adapters

if TYPE_CHECKING:
    from sparring.scenarios.schema import GraphSpec

ROWS = 512  # answers scored at once


@dataclass(frozen=True)
class Asked:
    """One answer at one position: the prompt's tokens and the answer's, end of turn included."""

    label: str
    prompt_ids: tuple[int, ...]
    answer_ids: tuple[int, ...]
    adapter: str = ""


def seat_prompt(graph: GraphSpec, seat: str) -> str | None:
    """The prompt that the nodes of ``seat`` ask for, ``None`` for the role's own.

    Raises ``ScenarioError`` unless they all ask for the same and begin a new conversation each time (``fresh``): what
    is decided must hang on the observation alone.
    """
    nodes = {name: node for name, node in graph.nodes.items() if node.role == seat}
    if len({node.prompt for node in nodes.values()}) != 1:
        raise ScenarioError(
            f"evaluation: the nodes of the seat {seat!r} ({', '.join(nodes) or 'there are none'}) must have one prompt "
            "for exact measures"
        )
    for name, node in nodes.items():
        if not node.fresh:
            raise ScenarioError(
                f"evaluation: the node {name!r} goes on with a conversation, so what the seat {seat!r} decides hangs "
                "on more than the position; set fresh: true on it, or measure accuracy instead"
            )
    return next(node.prompt for node in nodes.values())


def ask(
    positions: Sequence[Position],
    roles: Mapping[str, Role],
    graph: GraphSpec,
    renderer: Renderer,
    tools: Sequence[str] = (),
) -> list[Asked]:
    """Every answer of every position, under the prompt that the seat's role is shown there in play.

    Templates may read ``last``, ``heard``, ``said.environment`` and ``tools``; parameters and payloads of tasks are not
    known at a position. Raises ``ScenarioError`` for a seat without a role, or a template that reads more.
    """
    found: list[Asked] = []
    for position in positions:
        role = roles.get(position.seat)
        if role is None:
            raise ScenarioError(
                f"evaluation: no role is called {position.seat!r}; name the roles after the environment's seats"
            )
        prompt = role.prompt_at(seat_prompt(graph, position.seat))
        text = position.observation
        view = View(said={ENVIRONMENT: text}, last=text, heard=[Heard(ENVIRONMENT, text)], tools=tools)
        opened = renderer.open(role.observe(view, prompt)).token_ids
        found += [
            Asked(position.label, opened, spoken(action, renderer), role.spec.adapter) for action in position.actions
        ]
    return found


def probabilities(model: Any, asked: Sequence[Asked], temperature: float = 1.0) -> dict[str, list[float]]:
    """By label: the probability of each answer and then the end of the turn, in order, at this temperature.

    0 is greedy: the likeliest token has probability 1. What is missing to 1 are other texts.
    """
    found: dict[str, list[float]] = {}
    for one, values in zip(asked, token_logprobs(model, asked, temperature), strict=True):
        found.setdefault(one.label, []).append(exp(fsum(values)))
    return found


def token_logprobs(model: Any, asked: Sequence[Asked], temperature: float = 1.0) -> list[list[float]]:
    """The log-prob in nats of every token of every answer, in order, from whole forward passes of ``model``."""
    import torch

    adapters = Adapters.of(model)
    found: list[list[float]] = [[] for _ in asked]
    for adapter in dict.fromkeys(one.adapter for one in asked):
        if adapters is not None:
            adapters.use(adapter)
        mine = sorted(
            (at for at, one in enumerate(asked) if one.adapter == adapter),
            key=lambda at: len(asked[at].prompt_ids) + len(asked[at].answer_ids),
        )
        for start in range(0, len(mine), ROWS):
            places = mine[start : start + ROWS]
            with torch.inference_mode():
                scored = _score(model, [asked[at] for at in places], temperature)
            for at, values in zip(places, scored, strict=True):
                found[at] = values
    return found


def _score(model: Any, asked: Sequence[Asked], temperature: float) -> list[list[float]]:
    """Rows are padded on the right, which a causal model does not see."""
    import torch

    rows = [(*one.prompt_ids, *one.answer_ids) for one in asked]
    width = max(len(row) for row in rows)
    device = next(model.parameters()).device
    ids_BT = torch.zeros((len(rows), width), dtype=torch.long)
    told_BT = torch.zeros((len(rows), width), dtype=torch.bool)
    mask_BT = torch.zeros((len(rows), width), dtype=torch.long)
    for at, (row, one) in enumerate(zip(rows, asked, strict=True)):
        ids_BT[at, : len(row)] = torch.tensor(row)
        mask_BT[at, : len(row)] = 1
        told_BT[at, len(one.prompt_ids) : len(row)] = True
    ids_BT, told_BT = ids_BT.to(device), told_BT.to(device)
    logits_BTV = model(input_ids=ids_BT, attention_mask=mask_BT.to(device)).logits[:, :-1].float()
    target_BT = ids_BT[:, 1:]
    if temperature <= 0:
        taken_BT = torch.where(logits_BTV.argmax(-1) == target_BT, 0.0, -torch.inf)
    else:
        logprob_BTV = torch.log_softmax(logits_BTV / temperature, dim=-1)
        taken_BT = logprob_BTV.gather(-1, target_BT[..., None])[..., 0]
    return [taken_T[told_T].tolist() for taken_T, told_T in zip(taken_BT, told_BT[:, 1:], strict=True)]
