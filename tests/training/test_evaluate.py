"""What is measured: the part of a graph that answers a task, with the loops through the environment it needs."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from sparring.envs.types import Ending, Episode, Score, Turn
from sparring.scenarios.errors import ScenarioError
from sparring.scenarios.load import loads
from sparring.scenarios.schema import GraphSpec
from sparring.storage.store import Store
from sparring.training.evaluate import attempt_graph, attempted, conversations, figures, pass_at, successes
from sparring.training.session import start


def graph(nodes: dict[str, dict[str, str]], *edges: str) -> GraphSpec:
    return GraphSpec.model_validate({"nodes": nodes, "edges": list(edges)})


ROLES = {"propose": {"role": "teacher"}, "solve": {"role": "solver"}, "judge": {"role": "critic"}}
STEP = {"act": {"do": "step"}}


def test_one_attempt_is_the_first_answering_node_and_its_step() -> None:
    whole = graph(
        {**ROLES, **STEP, "revise": {"role": "solver"}},
        "solve -> act", "act -> judge", "judge -> revise if said_wrong", "revise -> act", "propose -> solve",
    )  # fmt: skip
    part = attempt_graph(whole, 4)
    assert list(part.nodes) == ["solve", "act"] and part.start == "solve"
    assert part.nodes["solve"].samples == 4
    assert [tuple(arrow) for arrow in part.arrows()] == [("solve", "act", None)]


def test_using_tools_goes_round_through_the_environment() -> None:
    whole = graph(
        {**ROLES, **STEP, "go_on": {"role": "solver"}},
        "solve -> act", "act -> go_on if unfinished", "go_on -> act", "act -> judge", "propose -> solve",
    )  # fmt: skip
    part = attempt_graph(whole, 2)
    assert set(part.nodes) == {"solve", "act", "go_on"}
    assert (part.nodes["solve"].samples, part.nodes["go_on"].samples) == (2, 1)
    assert ("act", "go_on", "unfinished") in [tuple(arrow) for arrow in part.arrows()]


def test_both_seats_of_a_game_belong_to_what_is_measured() -> None:
    nodes = {"one": {"role": "first"}, "two": {"role": "second"}, **STEP}
    part = attempt_graph(graph(nodes, "one -> act", "two -> act", "act -> one, two if unfinished"), 1)
    assert set(part.nodes) == {"one", "two", "act"}


def test_a_search_is_passed_by_in_what_is_measured() -> None:
    whole = graph(
        {"solve": {"role": "solver"}, **STEP, "look": {"do": "select"}}, "solve -> act", "act -> look", "look -> solve"
    )
    part = attempt_graph(whole, 1)
    assert set(part.nodes) == {"solve", "act"}
    assert [tuple(arrow) for arrow in part.arrows()] == [("solve", "act", None), ("act", "solve", "unfinished")]


def test_a_graph_without_a_step_cannot_be_measured() -> None:
    with pytest.raises(ScenarioError, match="no role's turn leads to"):
        attempt_graph(graph({"solve": {"role": "solver"}}), 1)


def test_pass_at_k_is_exact_for_one_right_of_two() -> None:
    assert (pass_at(1, [True, False]), pass_at(2, [True, False])) == (0.5, 1.0)


def talk(*chains: str) -> Episode:
    """An episode of conversations: ``wr`` is a wrong answer and then a right one; each answer is acted out."""
    turns = [Turn(0, None, "task", "environment", "")]
    scores = {}
    for chain in chains:
        above = 0
        for letter in chain:
            turns.append(Turn(len(turns), above, "solve", "solver", letter))
            scores[len(turns) - 1] = (Score.valued("verifier", float(letter == "r"), "test"),)
            turns.append(Turn(len(turns), len(turns) - 1, "verify", "environment", ""))
            above = len(turns) - 1
    return Episode(0, 0, {}, tuple(turns), (), scores, {}, {}, Ending.DONE)


def test_answers_are_taken_conversation_by_conversation() -> None:
    assert conversations(talk("wwr", "r", "ww")) == [[False, False, True], [True], [False, False]]


def test_success_within_k_answers_is_a_share_of_conversations() -> None:
    tasks = [conversations(talk("wwr", "r")), conversations(talk("ww"))]
    assert successes(tasks, ["succ@1", "succ@2", "succ@3", "accuracy"]) == {
        "succ@1": 0.25, "succ@2": 0.25, "succ@3": 0.5,
    }  # fmt: skip
    assert figures([[True]], ["succ@2"]) == {} and successes([[]], ["succ@2"]) == {}
    assert attempted(["succ@3", "x.y"]) == ["succ@3"]


SCORED = """
name: scored
policy: {model: MODEL}
environment: echo
roles:
  solver: {kind: plain, prompt: game/brief, reward: {verifier: 1.0, kept: 0.0}, sampling: {max_tokens: 3}}
rewards: {kept: {kind: max, of: [format, verifier]}}
graph:
  nodes: {solve: {role: solver, samples: 2}, verify: {do: step}, again: {role: solver}, reverify: {do: step}}
  edges: [solve -> verify, verify -> again, again -> reverify]
curriculum: {kind: random, arms: {length: [1, 2]}}
training: {steps: 0}
evaluation: {every: 1, tasks: 4, metrics: [METRICS]}
"""


def test_a_score_of_a_node_is_measured_when_the_whole_graph_plays(folder: Path, tmp_path: Path) -> None:
    text = SCORED.replace("MODEL", str(folder)).replace("METRICS", "again.verifier, solver.kept")
    session = start(loads(text), Store(tmp_path / "sparring.db"))
    assert session.evaluation is not None and session.evaluation.graph is None  # nothing asks for attempts alone
    rows = {(row.name, row.parameters.get("arm")): row for row in asyncio.run(session.evaluation.measure(0))}
    session.close()
    assert {name for name, _ in rows} == {"again.verifier", "solver.kept"}
    assert rows["again.verifier", None].n == 8 and rows["solver.kept", None].n == 16  # two chains on each of four tasks
    assert rows["solver.kept", "length=2"].n == 8


def test_what_is_proposed_in_an_evaluation_is_new_in_the_next_and_in_training(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "ask.md").write_text("{{ text[1:] }}x")
    asker = f"asker: {{kind: plain, prompt: {tmp_path}/ask.md, trainable: false, engine: {{kind: template}}}}"
    text = SCORED.replace("roles:\n", f"roles:\n  {asker}\n")
    text = text.replace("MODEL", str(folder)).replace("METRICS", "solver.verifier")
    asking = "seeded: true, nodes: {ask: {role: asker}, admit: {do: admit}, solve: {role: solver}, verify: {do: step}}"
    edges = "edges: [ask -> admit, admit -> solve if accepted, solve -> verify]"
    session = start(loads(text, overrides=(f"graph={{{asking}, {edges}}}",)), Store(tmp_path / "sparring.db"))
    assert session.evaluation is not None
    first, again = (asyncio.run(session.evaluation.measure(0)) for _ in range(2))
    session.close()
    assert first == again and first[0].n > 0 and not session.novelty.seen


@pytest.mark.parametrize(
    ("metric", "words"),
    [
        ("agian.verifier", "unknown node or role 'agian'; did you mean 'again'?"),
        ("again.kpet", "unknown score 'kpet'; did you mean 'kept'?"),
        ("verify.verifier", "unknown node or role 'verify'"),
    ],
)
def test_a_metric_of_what_is_not_there_is_told(metric: str, words: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        loads(SCORED.replace("MODEL", "builtin:tiny").replace("METRICS", metric))
    assert words in str(caught.value)
