"""Named objectives pull on policy as their papers say: -dL/dlogp per turn, for three right attempts and a wrong one."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from sparring.scenarios.registry import Registry, advantages, losses, make
from sparring.scenarios.schema import Ref
from sparring.training.groups import Group, Member, Place
from sparring.training.losses.base import Tokens
from sparring.training.objectives import FOLDER, read

REWARDS = [1.0, 0.0, 1.0, 1.0]
CENTRED = [0.25, -0.75, 0.25, 0.25]
SCORES = [value / 0.5001 for value in CENTRED]  # sample deviation 0.5
PULLS = {
    "reinforce": REWARDS,
    "rloo": [1 / 3, -1.0, 1 / 3, 1 / 3],
    "grpo": SCORES,
    "dapo": SCORES,
    "gspo": SCORES,
    "cispo": SCORES,
    "dr_grpo": CENTRED,
    "opmd": CENTRED,
    "rec_one_side": CENTRED,
    "rec_two_side": CENTRED,
    "rec_ring": CENTRED,
    "red_drop": CENTRED,
    "reinforce_ada": CENTRED,
    "bnpo": CENTRED,  # one group: the Beta distribution is uniform
    "asymre": [value + 0.1 for value in CENTRED],
    "red_weight": [math.exp(value) * value for value in CENTRED],
    "topr": [1.0, -1.0, 1.0, 1.0],
    "psr": REWARDS,
    "nsr": [0.0, -1.0, 0.0, 0.0],
    "w_reinforce": [0.1, -1.0, 0.1, 0.1],
    "oreal": [0.25, -0.375, 0.25, 0.25],
    "gdpo": [1 / math.sqrt(3), -math.sqrt(3), 1 / math.sqrt(3), 1 / math.sqrt(3)],
    "reinforce_pp_baseline": [1 / math.sqrt(3), -math.sqrt(3), 1 / math.sqrt(3), 1 / math.sqrt(3)],
}


def part(registry: Registry[Any], written: object) -> Any:
    """A part as a bundle names it."""
    return make(registry, Ref.model_validate(written))


@pytest.mark.parametrize("name", PULLS)
def test_an_objective_pulls_as_its_paper_says(name: str) -> None:
    bundle = read(FOLDER / f"{name}.yaml")()
    members = [Member(Place(0, i), reward, {"verifier": reward}, tokens=1) for i, reward in enumerate(REWARDS)]
    (value_G,) = part(advantages, bundle["advantage"])([Group.of("solver", "solve", "siblings", members)])
    logprob_N = torch.tensor([-0.5, -1.0, -1.5, -2.0], dtype=torch.float64, requires_grad=True)
    old_N, index_N = logprob_N.detach().clone(), torch.arange(4)
    streams = {"advantage": torch.tensor(value_G, dtype=torch.float64), "logprob_old": old_N, "reference": old_N}
    tokens = Tokens(logprob_N, torch.ones(4, dtype=torch.float64), index_N, index_N, streams)
    (gradient_N,) = torch.autograd.grad(part(losses, bundle["loss"])(tokens), logprob_N)
    assert (-gradient_N).tolist() == pytest.approx(PULLS[name], abs=1e-6)
