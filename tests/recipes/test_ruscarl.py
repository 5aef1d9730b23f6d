"""What RuscaRL promises (arXiv 2508.16949), on stored rows of the recipe; its formulas are tested beside the parts.

How much each sibling is shown: ``tests/agents/test_scaffold.py``. Points below zero, rules beside a judge, a judge that
fails: ``tests/agents/test_task_rubric.py``.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.recipes.conftest import Play

import sparring.scenarios
from sparring.envs.types import Episode
from sparring.scenarios.load import load
from sparring.scenarios.schedule import Now
from sparring.storage.queries import episode, select_rows
from sparring.storage.rubrics import rubrics
from sparring.storage.store import Store
from sparring.training.evaluate import _at
from sparring.training.learner import _tokens
from sparring.training.rows import BEHAVIOUR
from sparring.training.session import Session

RECIPE = Path(sparring.scenarios.__file__).parent / "recipes" / "ruscarl.yaml"
SMALL = (
    "training.steps=1", "rollout.episodes=2", "rollout.picks=2", "roles.solver.scaffold.kept=0.0",
    "roles.solver.scaffold.share=1.0",
    "roles.solver.sampling.max_tokens=24", "evaluation.every=0", "audit.tasks=1", "canary.every=0",
)  # fmt: skip


@pytest.fixture(scope="module")
def played(play: Play) -> tuple[Session, Store, list[Episode]]:
    """One step of two groups of eight, help stripped from the first."""
    session = play(RECIPE, SMALL)
    return session, session.store, [episode(session.store, "r1", f"r1/1/{number}") for number in range(2)]


def attempts(found: list[Episode]) -> list[tuple[Any, Any]]:
    return [(one, turn) for one in found for turn in one.turns if turn.author == "solver"]


def test_help_is_whole_at_first_and_gone_at_the_end_of_the_recipe() -> None:
    scenario: Any = load(RECIPE)
    share = [scenario.at(Now(step, 12)).roles["solver"].scaffold.share for step in range(13)]
    assert share[0] == pytest.approx(1.0, abs=1e-6) and share[12] < 1e-5
    assert share == sorted(share, reverse=True)


def test_stored_rows_tell_what_each_sibling_was_shown(played: Any) -> None:
    _, store, found = played
    wanted = "SELECT t.sample, s.value FROM turns t JOIN scores s ON s.turn_id = t.id WHERE s.name = 'scaffold'"
    shown = dict(select_rows(store, f"{wanted} ORDER BY t.sample").rows)
    assert shown[0] == 1.0 and shown[7] == 0.0 and list(shown.values()) == sorted(shown.values(), reverse=True)
    for one, turn in attempts(found):
        items = len(one.rubrics[0].criteria)
        assert one.score(turn.index, "scaffold").value * items == pytest.approx(
            math.floor((7 - turn.sample) / 7 * items + 0.5)
        )


def test_the_sampling_prompt_is_another_than_the_training_prompt_where_help_was_shown(played: Any) -> None:
    for one, turn in attempts(played[2]):
        plain = f"Prints?\n{one.tasks[0].payload['program']}"
        if turn.sample == 7:
            assert turn.train_context is None and plain in turn.context.text
        else:
            assert turn.train_context != turn.context and "Critic:" in turn.context.text
            assert plain in turn.train_context.text and "Critic:" not in turn.train_context.text


def test_log_probs_are_computed_anew_under_the_stripped_prompt_and_their_ratio_is_1(played: Any) -> None:
    session, _, found = played
    made = session.plan.make(session.plan.due(1, {}), found, 1)
    stripped = [row for row in made.rows if found[row.spans[0].episode].turns[row.spans[0].turn].train_context]
    assert stripped
    learner = session.learner
    for batch, _ in learner.ranks.batches(learner.model, stripped, 16384):
        with torch.no_grad():
            tokens = _tokens(batch, learner.model.score(batch))
        own = []
        for row in batch.rows:
            (span,) = row.spans
            turn = found[span.episode].turns[span.turn]
            assert tuple(row.token_ids) == turn.train_context.token_ids + turn.token_ids
            assert all(math.isnan(row.streams[BEHAVIOUR][at]) for at in range(span.start, span.stop))
            with torch.no_grad():
                logits = session.policy.model(torch.tensor([row.token_ids])).logits[0].log_softmax(-1)
            own += [float(logits[at - 1, row.token_ids[at]]) for at in row.trained]
        assert tokens.logprob_N.tolist() == pytest.approx(own, abs=1e-4)
        assert (tokens.logprob_N - tokens.old_N).exp().tolist() == [1.0] * len(own)


def test_every_criterions_verdict_is_a_row_and_the_rubric_is_the_environments(played: Any) -> None:
    _, store, found = played
    for one, turn in attempts(found):
        score, given = one.score(turn.index, "rubric"), one.rubrics[0].criteria
        assert [row.criterion for row in score.criteria] == list(range(len(given)))
        met = sum(c.points * row.share for c, row in zip(given, score.criteria, strict=True))
        assert score.value == pytest.approx(met / sum(c.points for c in given if c.points > 0))
    assert {(row.written_by, row.provenance) for row in rubrics(store, "r1").rubrics} == {
        ("environment", "environment")
    }


def test_the_figures_of_a_step_tell_the_share_shown_and_what_it_gained(played: Any) -> None:
    figures = played[0].figures
    assert 0.4 < figures["scaffold/solver"] < 0.6 and -1 <= figures["scaffold_gain/solver"] <= 1


def test_evaluations_show_nothing(played: Any) -> None:
    session = played[0]
    assert _at(session.rollout.runtime.roles["solver"], 1.0).spec.scaffold is None
