"""Attempts beside one another: who is picked, what a role reads of a pair, whether a rubric reproduces the label."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparring.agents.beside import letters, pair
from sparring.agents.contrast import consistency
from sparring.agents.engine import Request
from sparring.agents.rewards import Context, verdicts
from sparring.agents.role import make_role
from sparring.agents.rubric import parse_rubric
from sparring.envs.types import Ending, Finish, Parsed, Score, Task, Validity
from sparring.scenarios.schema import GraphSpec, RoleSpec

JUDGE = {"judge": make_role("judge", RoleSpec(kind="judge", prompt="full/judge_pair", sees=("rubric", "siblings")))}
ROLES: dict[str, dict[str, Any]] = {
    "solver": {"prompt": "brief/solver", "reward": ["verifier"]},
    "scribe": {"kind": "rubric_writer", "prompt": "pair.md", "sees": ["siblings"], "reward": ["consistency"]},
}


def graph(samples: int, **node: Any) -> GraphSpec:
    nodes = {"solve": {"role": "solver", "samples": samples}, "verify": {"do": "step"},
             "contrast": {"role": "scribe", "pick": "contrast", **node}}  # fmt: skip
    return GraphSpec.model_validate({"nodes": nodes, "edges": ["solve -> verify", "verify -> contrast"]})


def played(table: Any, task: Any, right: list[bool], **node: Any) -> tuple[Any, list[str]]:
    """An episode of attempts ``12`` and wrong ones numbered from 20, and what the rubric-writer read."""
    (table.folder / "pair.md").write_text("{{ pair.preferred.said }} over {{ pair.rejected.said }}")
    heard: list[str] = []
    said = iter([f"<answer>{12 if one else 20 + at}</answer>" for at, one in enumerate(right)])

    def script(prompt: str, asked: Request) -> str:
        if asked.tag == "solver":
            return next(said)
        heard.append(prompt)
        return "1 answer is 12"

    return table.play(graph(len(right), **node), script, table.roles(ROLES), task), heard


@settings(max_examples=15, deadline=None)
@given(right=st.lists(st.booleans(), min_size=1, max_size=6), at_most=st.sampled_from([None, 1, 2]))
def test_contrast_picks_wrong_attempts_of_mixed_groups_alone(
    new_table: Any, world: Any, tmp_path_factory: Any, right: list[bool], at_most: int | None
) -> None:
    task = Task("world", {"program": "print(12)"}, {"reference": "12", "trace": []})
    episode, _ = played(new_table(world, tmp_path_factory.mktemp("t")), task, right, at_most=at_most)
    assert episode.ending is Ending.DONE
    below = [episode.turns[turn.parent].parent for turn in episode.turns if turn.author == "scribe"]
    assert len(below) == (min(right.count(False), at_most or 1) if any(right) else 0)
    assert len(set(below)) == len(below)
    assert all(episode.score(attempt, "verifier").value == 0.0 for attempt in below)


def test_the_writer_reads_exactly_the_pair_that_the_reward_judges(table: Any, task: Any) -> None:
    episode, heard = played(table, task, [False, True, False, True], at_most=4)
    writers = [turn for turn in episode.turns if turn.author == "scribe"]
    pairs = []
    for turn, prompt in zip(writers, heard, strict=True):
        attempt = episode.turns[episode.turns[turn.parent].parent]
        two = pair(episode.turns, attempt, turn.index, verdicts(episode))
        assert two is not None and two.rejected == attempt
        assert f"{two.preferred.said} over {two.rejected.said}" in prompt
        pairs.append((two.preferred.sample, two.rejected.sample))
    assert sorted(pairs) == [(1, 0), (3, 2)]  # the next right one after each


def test_a_role_without_siblings_reads_nothing_of_other_attempts(table: Any, task: Any) -> None:
    (table.folder / "peek.md").write_text("{{ siblings }}")
    roles = table.roles(ROLES | {"scribe": {**ROLES["scribe"], "prompt": "peek.md", "sees": []}})
    answers = iter(["<answer>1</answer>", "<answer>12</answer>"])
    episode = table.play(graph(2), lambda prompt, asked: next(answers), roles, task)
    assert episode.ending is Ending.BROKE and "'siblings' is undefined" in episode.error


def test_names_of_attempts_go_on_after_z() -> None:
    assert [letters(at) for at in (0, 1, 25, 26, 27, 51, 52)] == ["A", "B", "Z", "AA", "AB", "AZ", "BA"]


# -- the label ---------------------------------------------------------------------------------------------------------


def judged(tree: Any, rubric: str, marks: dict[str, bool] | None = None, first_right: bool = True) -> Any:
    """Two attempts (A and B), a rubric below the wrong one, and what a judge of both said below that."""
    top = tree.add("environment")
    one = tree.add("solver", top, float(first_right), "<answer>12</answer>" if first_right else "<answer>9</answer>")
    two = tree.add(
        "solver", top, float(not first_right), "<answer>9</answer>" if first_right else "<answer>12</answer>"
    )
    seen = {attempt: tree.add("environment", attempt) for attempt in (one, two)}
    wrote = tree.add("scribe", seen[two if first_right else one], said=rubric, parsed=parse_rubric(rubric))
    if marks is not None:
        tree.add("judge", wrote, parsed=Parsed("marks", marks, None if marks else "no marks"))
    return tree.episode(), wrote


def consistent(tree: Any, context: Context, rubric: str, marks: dict[str, bool] | None = None, **more: Any) -> Score:
    episode, wrote = judged(tree, rubric, marks, **more)
    found: Score = consistency(episode, episode.turns[wrote], replace(context, roles=JUDGE))[0]
    return found


def test_rules_alone_can_reproduce_the_label(tree: Any, context: Context) -> None:
    found = consistent(tree, context, "2 answer is 12\n2 says answer")
    assert (found.value, found.note) == (1.0, "1 against 0.5")


@pytest.mark.parametrize(
    ("rubric", "note"),
    [
        ("3 answer is 9\n1 says answer", "prefers the rejected answer: 0.25 against 1"),
        ("1 says answer", "ties: 1 against 1"), ("1 is elegant", "nothing could be checked"),
        ("I cannot say", "no criterion"),
    ],
)  # fmt: skip
def test_what_does_not_reproduce_the_label_earns_nothing_and_says_why(
    tree: Any, context: Context, rubric: str, note: str
) -> None:
    found = consistent(tree, context, rubric)
    assert (found.validity, found.value, found.note) == (Validity.VALUED, 0.0, note)


ANSWER = st.lists(st.tuples(st.integers(1, 9), st.booleans(), st.booleans()), min_size=1, max_size=6)


@given(rows=ANSWER, first_right=st.booleans())
def test_a_rubric_is_kept_if_and_only_if_the_judge_reproduces_the_label(
    new_tree: Any, context: Context, rows: list[tuple[int, bool, bool]], first_right: bool
) -> None:
    """``rows``: points, whether the judge says yes of the preferred answer, and of the rejected one."""
    text = "\n".join(f"{points} principle: quality {at}" for at, (points, _, _) in enumerate(rows))
    good, bad = ("A", "B") if first_right else ("B", "A")
    marks = {f"{good}{at}": yes for at, (_, yes, _) in enumerate(rows, 1)}
    marks |= {f"{bad}{at}": yes for at, (_, _, yes) in enumerate(rows, 1)}
    found = consistent(new_tree(), context, text, marks, first_right=first_right)
    margin = sum(points * (yes - no) for points, yes, no in rows)
    assert found.value == float(margin > 0)
    assert found.note.startswith("prefers the rejected answer") is (margin < 0)


def test_judges_that_failed_make_it_invalid(tree: Any, context: Context) -> None:
    found = consistent(tree, context, "1 is elegant", {})
    assert (found.validity, found.value, found.note) == (Validity.INVALID, None, "turn 6: no marks")


def test_a_judge_that_could_not_be_asked_makes_it_invalid(tree: Any, context: Context) -> None:
    episode, wrote = judged(tree, "1 is elegant", {"A1": True})
    lost = episode.turns[-1].amended(finish=Finish.ABORT, parsed=Parsed("marks", None, "server down"))
    episode = replace(episode, turns=(*episode.turns[:-1], lost))
    found = consistency(episode, episode.turns[wrote], replace(context, roles=JUDGE))[0]
    assert (found.validity, found.note) == (Validity.INVALID, "turn 6: server down")


def test_a_criterion_answered_of_one_text_alone_does_not_count(tree: Any, context: Context) -> None:
    found = consistent(tree, context, "5 is elegant\n1 is short", {"A1": True, "A2": True, "B2": True})
    assert found.note == "ties: 1 against 1"


def test_without_a_pair_there_is_no_label(tree: Any, context: Context) -> None:
    top = tree.add("solver", None, 0.0, "<answer>9</answer>")
    wrote = tree.add("scribe", tree.add("environment", top), said="1 says a", parsed=parse_rubric("1 says a"))
    episode = tree.episode()
    assert consistency(episode, episode.turns[wrote], context)[0].validity is Validity.MISSING


def test_a_judge_below_a_rubric_is_not_asked_about_its_siblings(tree: Any, context: Context) -> None:
    """Four rubrics of one pair are four judgements, not one of all."""
    top = tree.add("environment")
    two = [tree.add("solver", top, right, f"<answer>{12 if right else 9}</answer>") for right in (1.0, 0.0)]
    seen = [tree.add("environment", attempt) for attempt in two]
    texts = ("1 is elegant", "1 is plain")
    wrote = [tree.add("scribe", seen[1], said=text, parsed=parse_rubric(text)) for text in texts]
    for at, marks in enumerate(({"A1": True, "B1": False}, {"A1": False, "B1": True})):
        tree.add("judge", wrote[at], parsed=Parsed("marks", marks))
    episode, own = tree.episode(), replace(context, roles=JUDGE)
    assert [consistency(episode, episode.turns[one], own)[0].value for one in wrote] == [1.0, 0.0]


def test_a_judge_of_pairs_names_texts_and_numbers() -> None:
    said = "A1: yes\nb 2: yes\nB1. no\nA1: no\n3: yes"
    assert JUDGE["judge"].parse(said).value == {"A1": False, "B1": False, "3": True}
