"""Distillation: divergences against enumeration, and what sampling from the policy estimates."""

from __future__ import annotations

import itertools

import pytest
import torch

from sparring.training.head import Against, Vocabulary, read
from sparring.training.losses.base import Tokens
from sparring.training.losses.distill import Distillation

V = 5


def parts(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Hidden states (4, V) and the output matrices of policy and teacher."""
    rng = torch.Generator().manual_seed(seed)
    hidden, mine, other = (torch.randn(*shape, generator=rng) for shape in ((4, V), (V, V), (V, V)))
    return hidden.requires_grad_(), mine.requires_grad_(), other


def distilled(direction: str, coefficient: list[float]) -> tuple[torch.Tensor, torch.Tensor]:
    """The loss of four tokens and its gradient to the hidden states."""
    part = Distillation(Distillation.Config.model_validate({"direction": direction}))
    hidden, mine, other = parts()
    against = Against(hidden.detach(), Vocabulary(other), forward=part.direction == "forward")
    seen = read(hidden, Vocabulary(mine), torch.tensor([0, 1, 2, 3]), torch.ones(4), against=against)
    index_N = torch.arange(4)
    loss = part(Tokens(seen.logprob_N, torch.tensor(coefficient), index_N, index_N, {}, divergence_N=seen.divergence_N))
    (slope,) = torch.autograd.grad(loss, hidden)
    return loss, slope


@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_the_loss_is_the_sum_of_exact_divergences(direction: str) -> None:
    share = [0.4, 0.3, 0.2, 0.1]
    loss, slope = distilled(direction, share)
    hidden, mine, other = parts()
    p, q = (hidden @ mine.t()).log_softmax(-1), (hidden.detach() @ other.t()).log_softmax(-1)
    above, below = (q, p) if direction == "forward" else (p, q)
    exact = torch.stack(
        [share[n] * above[n, v].exp() * (above[n, v] - below[n, v]) for n, v in itertools.product(range(4), range(V))]
    ).sum()
    (expected,) = torch.autograd.grad(exact, hidden)
    assert loss.item() == pytest.approx(exact.item(), abs=1e-6)
    assert torch.allclose(slope, expected, atol=1e-6)


def chain(seed: int) -> torch.Tensor:
    """(V + 1, V) log-probs: the first token's, then the second's after each first one."""
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(V + 1, V, generator=rng).double().log_softmax(-1)


def test_on_policy_the_expected_sum_over_tokens_is_the_divergence_of_whole_answers() -> None:
    policy, teacher = chain(1), chain(2)
    kl = (policy.exp() * (policy - teacher)).sum(-1)  # reverse, at each of the six states
    expected, whole = torch.zeros(()).double(), torch.zeros(()).double()
    for first, second in itertools.product(range(V), range(V)):
        chance = (policy[0, first] + policy[1 + first, second]).exp()
        states = torch.stack([kl[0], kl[1 + first]])
        index_N = torch.tensor([0, 0])
        shown = Tokens(states, torch.ones(2).double(), index_N, index_N, {}, divergence_N=states)
        expected += chance * Distillation()(shown)
        ratio = policy[0, first] + policy[1 + first, second] - teacher[0, first] - teacher[1 + first, second]
        whole += chance * ratio
    assert expected.item() == pytest.approx(whole.item(), abs=1e-12)


def test_a_teacher_equal_to_the_policy_teaches_nothing() -> None:
    hidden, mine, _ = parts()
    against = Against(hidden.detach(), Vocabulary(mine.detach()), forward=False)
    seen = read(hidden, Vocabulary(mine), torch.tensor([0, 1, 2, 3]), torch.ones(4), against=against)
    index_N = torch.arange(4)
    loss = Distillation()(Tokens(seen.logprob_N, torch.ones(4), index_N, index_N, {}, divergence_N=seen.divergence_N))
    (slope,) = torch.autograd.grad(loss, hidden)
    assert loss.item() == pytest.approx(0.0, abs=1e-6)
    assert slope.abs().max().item() < 1e-6


def test_it_asks_for_a_teacher_and_reads_every_token() -> None:
    assert Distillation().needs == {"teacher"}
    assert Distillation().every_token
    assert Distillation().direction == "reverse"
