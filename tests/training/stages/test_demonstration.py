"""A demonstration is trained on token by token as the renderer writes it, and only where everybody failed."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sparring.agents.engine import ByteRenderer, Message, spoken
from sparring.envs.types import Episode, Score, Span, Task
from sparring.scenarios.errors import ScenarioError
from sparring.scenarios.schema import RoleSpec
from sparring.training.advantages.group import MeanBaseline
from sparring.training.credit import credit, form
from sparring.training.losses.presets import Dapo
from sparring.training.pack import pack
from sparring.training.stages.base import apply
from sparring.training.stages.demonstration import Demonstrations, demonstrate

SPEC = RoleSpec(kind="plain", reward={"verifier": 1.0})
TASK = Task("code", {"program": "print(4)"}, {"reference": "4"}, key="t")


def stage(**more: Any) -> Demonstrations:
    return Demonstrations(Demonstrations.Config(role="solver", **more))


def posed(episode: Episode, renderer: Any = None) -> Episode:
    """The episode with its task and, given a renderer, with turns sampled in a context it rendered."""
    if renderer is not None:
        context = renderer.open([Message("user", "print(4)")])
        turns = [turn.amended(context=context) if turn.token_ids else turn for turn in episode.turns]
        episode = replace(episode, turns=tuple(turns))
    return replace(episode, tasks=(TASK,))


@pytest.fixture(params=["bytes", "chat"])
def any_renderer(request: pytest.FixtureRequest, renderer: Any) -> Any:
    return ByteRenderer() if request.param == "bytes" else renderer


def test_the_row_has_the_rendered_tokens_and_unknown_log_probs(attempts: Any, any_renderer: Any) -> None:
    """An end-of-turn token is among them, so stopping is learnt too (nanochat's gets no gradient)."""
    episode = posed(attempts([0.0, 0.0]), any_renderer)
    [shown] = stage().offer([episode], any_renderer)
    earned = credit([shown], {"solver": SPEC}, MeanBaseline(), stages=[stage()])
    row = pack([shown], earned.advantages, {"solver": SPEC}, {"policy": Dapo()}).rows[-1]
    question, answer = Message("user", "print(4)"), Message("assistant", "<answer>4</answer>")
    whole = any_renderer.open([question, answer]).token_ids
    assert tuple(row.token_ids) == whole[: len(row.token_ids)]
    [span] = row.spans
    said = row.token_ids[span.start : span.stop]
    assert any_renderer.decode(said) == "<answer>4</answer>"
    assert said == list(spoken("<answer>4</answer>", any_renderer)) and span.stop == len(row.token_ids)
    assert any_renderer.decode(said[:-1]) == "<answer>4</answer>"  # the last one is the end of the turn
    assert all(math.isnan(row.streams["logprob_old"][at]) for at in range(span.start, span.stop))
    assert row.trained == list(range(span.start, span.stop))


def test_a_demonstration_is_a_sibling_with_a_valued_score(attempts: Any) -> None:
    episode = posed(attempts([0.0, 0.0]))
    made = demonstrate(episode, episode.turns[2], "four", ByteRenderer())
    turn = made.turns[-1]
    assert (turn.parent, turn.node, turn.author, turn.sample, turn.engine) == (0, "solve", "solver", 2, "demonstration")
    assert turn.context == episode.turns[2].context and turn.task == "t"
    assert made.score(turn.index, "verifier") == Score.valued("verifier", 1.0, "demonstration")
    assert made.turns[:-1] == episode.turns


def test_no_policy_is_said_to_have_sampled_its_tokens(attempts: Any) -> None:
    """The sibling it is made like changed policies in mid-turn, in a run that plays ahead."""
    episode = posed(attempts([0.0]))
    like = episode.turns[1].amended(spans=(Span(3, 0, 1), Span(4, 1, 9)))
    assert demonstrate(episode, like, "four", ByteRenderer()).turns[-1].spans == ()


def test_only_failed_groups_learn_it(attempts: Any) -> None:
    failed, solved = posed(attempts([0.0, 0.0])), posed(attempts([0.0, 1.0], index=1))
    shown = [demonstrate(one, one.turns[1], "four", ByteRenderer()) for one in (failed, solved)]
    shown[1] = replace(shown[1], turns=tuple(turn.amended(task="u") if turn.task else turn for turn in shown[1].turns))
    first, second = apply([stage(weight=0.5)], form(shown, "solver", SPEC), shown)
    assert [(member.note, member.weight) for member in first.members] == [("", 1), ("", 1), ("demonstration", 0.5)]
    assert second.reward_G == [0.0, 1.0]


def test_it_is_offered_where_every_attempt_was_judged_and_none_right(attempts: Any) -> None:
    unjudged = replace(posed(attempts([0.0])), scores={1: (Score.invalid("verifier", "test", "crashed"),)})
    episodes = [posed(attempts([0.0, 0.0])), posed(attempts([0.0, 1.0])), unjudged]
    shown = stage().offer(episodes, ByteRenderer())
    assert [len(one.turns) - len(old.turns) for one, old in zip(shown, episodes, strict=True)] == [1, 0, 0]
    assert stage().offer(shown, ByteRenderer()) == shown
    assert stage(nodes=("revise",)).offer(episodes, ByteRenderer()) == episodes


def test_texts_come_from_a_file_by_task(tmp_path: Path, attempts: Any) -> None:
    file = tmp_path / "shown.jsonl"
    file.write_text(json.dumps({"key": "t", "text": "it prints 4"}) + "\n\n")
    [shown] = stage(path=str(file)).offer([posed(attempts([0.0]))], ByteRenderer())
    assert shown.turns[-1].said == "it prints 4"
    other = replace(posed(attempts([0.0], key="u")), tasks=(replace(TASK, key="u"),))
    assert stage(path=str(file)).offer([other], ByteRenderer()) == [other]


@pytest.mark.parametrize("line", ["{", "[1]", '{"key": "t"}', '{"key": "t", "text": 4}'])
def test_a_bad_line_is_named(line: str, tmp_path: Path) -> None:
    file = tmp_path / "shown.jsonl"
    file.write_text('{"key": "t", "text": "4"}\n' + line)
    with pytest.raises(ScenarioError, match=r"shown.jsonl:2: "):
        stage(path=str(file))


def test_a_missing_file_a_missing_secret_and_a_bad_template_are_named(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match="cannot be read"):
        stage(path=str(tmp_path / "none.jsonl"))
    with pytest.raises(ScenarioError, match=r"'proof' is undefined; task t has these secrets: reference"):
        stage(template="{{ proof }}").text(TASK)
    with pytest.raises(ValueError, match="not jinja2"):
        stage(template="{{ reference")


def test_a_text_the_template_would_rewrite_is_refused(any_renderer: Any) -> None:
    with pytest.raises(ScenarioError, match="write it without control tokens"):
        spoken("4<|end|>", any_renderer)
