"""Three roles of one policy in one update: what the rows of a short run show (SPELL, arXiv 2509.23863)."""

from __future__ import annotations

import asyncio
import itertools
import json
import math
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from sparring.scenarios.load import from_resolved, load
from sparring.storage.queries import run_hash, select_rows
from sparring.storage.remembering import recall
from sparring.storage.store import Store
from sparring.training.loop import learn
from sparring.training.session import resume, start

RECIPE = Path(__file__).parents[2] / "scenarios" / "recipes" / "spell.yaml"
SHORT = (
    "training.steps=3",
    "training.trainers={warmup: {kind: sft, keep: demonstrations, until: 1}, rl: {after: 1}}",
    "roles.questioner.demonstrated=0.7",
    "roles.responder.demonstrated=0.5",
    "roles.verifier.demonstrated=0.6",
    "roles.questioner.memory={keep: 3, score: halfway, at_least: 0.0}",
    "rollout={episodes: 5, picks: 3}",
    "training.checkpoint.every=1",
    "evaluation.every=0",
    "canary.every=0",
)


class Ran:
    """A short run of the recipe in a database of its own."""

    def __init__(self, folder: Path, *overrides: str, stop_after: int | None = None) -> None:
        self.path = folder / "sparring.db"
        asked = itertools.count()
        session = start(load(RECIPE, (*SHORT, *overrides)), Store(self.path))
        asyncio.run(learn(session, stop=lambda: stop_after is not None and next(asked) >= stop_after))
        self.hash = run_hash(session.store, session.run)
        session.close()

    def rows(self, query: str) -> list[Any]:
        with Store(self.path) as store:
            return list(select_rows(store, query).rows)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """The run that most tests read."""
    return Ran(tmp_path_factory.mktemp("spell"))


def test_one_update_holds_groups_of_all_three_roles_each_normalised_by_itself(run: Ran) -> None:
    query = """SELECT s.number, a.role, a."group", a.reward, a.value FROM advantages a
        JOIN steps s ON s.id = a.step_id WHERE a.trainer = 'rl' AND a.weight > 0"""
    groups: dict[tuple[int, str, int], list[tuple[float, float]]] = defaultdict(list)
    for step, role, group, reward, value in run.rows(query):
        groups[step, role, group].append((reward, value))
    moved = {(step, role) for (step, role, _), members in groups.items() if any(value for _, value in members)}
    assert {role for step, role in moved if step == 2} == {"questioner", "responder", "verifier"}
    for members in groups.values():
        rewards = [reward for reward, _ in members]
        mean = math.fsum(rewards) / len(rewards)
        spread = math.sqrt(math.fsum((one - mean) ** 2 for one in rewards) / max(1, len(rewards) - 1))
        for reward, value in members:
            assert value == pytest.approx((reward - mean) / spread if spread > 1e-6 else 0.0, abs=1e-3)


SCORED = """SELECT e.id, t.number, t.parent, t.node, t.author, sc.name, sc.value, sc.note, t.parsed_value
    FROM turns t JOIN episodes e ON e.id = t.episode_id LEFT JOIN scores sc ON sc.turn_id = t.id"""


def test_a_question_earns_the_bell_over_the_rewards_of_its_own_answers(run: Ran) -> None:
    answers: dict[tuple[int, int], list[float]] = defaultdict(list)
    parents = {(episode, number): parent for episode, number, parent, *_ in run.rows(SCORED)}
    for episode, _, parent, node, _, name, value, *_ in run.rows(SCORED):
        if node == "answer" and name == "answered" and value is not None:
            top = parents[episode, parents[episode, parents[episode, parent]]]  # past guessed, unread and admit
            answers[episode, top].append(value)
    found = 0
    for episode, number, _, node, _, name, value, note, _ in run.rows(SCORED):
        if node == "ask" and name == "halfway" and (episode, number) in answers:
            p = math.fsum(answers[episode, number]) / len(answers[episode, number])
            assert value == pytest.approx(math.exp(-((p - 0.5) ** 2) / (2 * 0.1667**2))), note
            found += 1
    assert found > 3


def test_an_answer_earns_the_larger_of_rule_and_vote_and_a_verdict_its_agreement(run: Ran) -> None:
    votes: dict[tuple[int, int], list[bool]] = defaultdict(list)
    rule: dict[tuple[int, int], float] = {}
    earned: dict[tuple[int, int], float] = {}
    verdicts = []
    answer_of = {(e, n): parent for e, n, parent, node, *_ in run.rows(SCORED) if node == "answered"}
    for episode, number, parent, node, _, name, value, _, parsed in run.rows(SCORED):
        if node == "answer" and value is not None:
            {"verifier": rule, "answered": earned}.get(name, {})[episode, number] = value
        if node == "judge" and name == "agreement":
            said = json.loads(parsed) if parsed is not None else None
            verdicts.append(((episode, answer_of[episode, parent]), said, value))
            if said is not None:
                votes[episode, answer_of[episode, parent]].append(said == "right")
    assert len(earned) > 10 and len(verdicts) > 10
    for place, value in earned.items():
        vote = 2 * sum(votes[place]) > len(votes[place])
        assert value == max(rule[place], float(vote))
    for place, said, value in verdicts:
        vote = 2 * sum(votes[place]) > len(votes[place])
        assert value == float(said is not None and (said == "right") == vote)


def test_the_first_attempt_reads_no_document_and_drops_what_it_answers(run: Ran) -> None:
    query = """SELECT t.node, g.text, k.payload FROM turns t JOIN segments g ON g.id = t.context_id
        JOIN tasks k ON k.episode_id = t.episode_id AND k.number = t.task WHERE t.node IN ('unread', 'answer')"""
    read = defaultdict(list)
    for node, context, payload in run.rows(query):
        documents = json.loads(payload)["documents"]
        read[node].append([one in context for one in documents])
    assert read["unread"] and not any(itertools.chain(*read["unread"]))
    assert read["answer"] and all(itertools.chain(*read["answer"]))
    right = """SELECT count(*) FROM turns a JOIN turns g ON g.episode_id = a.episode_id AND g.number = a.parent
        JOIN turns u ON u.episode_id = g.episode_id AND u.number = g.parent
        JOIN scores s ON s.turn_id = u.id AND s.name = 'verifier' WHERE a.node = 'answer' AND s.value >= 0.5"""
    assert run.rows(right) == [(0,)]


def test_a_proposed_task_names_the_documents_it_is_about_and_what_was_done(run: Ran) -> None:
    query = """SELECT k.operator, p.origin, k.parent_key = p.key, k.origin_turn IS NOT NULL, p.origin_turn IS NULL
        FROM tasks k JOIN tasks p ON p.id = k.parent_id"""
    assert set(run.rows(query)) == {("asked", "generator", 1, 1, 1)}


def test_memory_is_bounded_and_is_what_the_rows_say(run: Ran) -> None:
    query = """SELECT s.number, g.text FROM turns t JOIN segments g ON g.id = t.context_id
        JOIN episodes e ON e.id = t.episode_id JOIN steps s ON s.id = e.step_id WHERE t.node = 'ask'"""
    scenario = load(RECIPE, SHORT)
    with Store(run.path) as store:
        known = {step: recall(store, "r1", scenario, step)["questioner"] for step in (1, 2, 3)}
    assert [len(known[step]) for step in (1, 2, 3)] == [0, 3, 3] and known[2] != known[3]
    for step, prompt in run.rows(query):
        assert all(one in prompt for one in known[step])
        assert ("Asked" in prompt) == bool(known[step])


def test_a_resumed_run_remembers_and_does_the_same(run: Ran, tmp_path: Path) -> None:
    Ran(tmp_path, stop_after=1)
    store = Store(tmp_path / "sparring.db")
    point = store.resume_point("r1")
    assert point.last_step is not None and point.last_step < 3
    session = resume(from_resolved(point.scenario), store, point)
    asyncio.run(learn(session))
    found = run_hash(store, session.run)
    session.close()
    assert found == run.hash


def test_the_mix_of_roles_in_the_update_follows_their_weights(run: Ran, tmp_path: Path) -> None:
    query = "SELECT role, sum(weight), count(*) FROM advantages WHERE trainer = 'rl' AND weight > 0 GROUP BY role"
    heavy = Ran(tmp_path, "training.steps=2", "roles.questioner.weight=1.0", "roles.verifier.weight=0.25")
    assert {role: total / count for role, total, count in heavy.rows(query)} == {
        "questioner": 1.0, "responder": 1.0, "verifier": 0.25
    }  # fmt: skip


def test_the_number_of_documents_stands_in_the_rows_of_every_step(run: Ran) -> None:
    query = "SELECT step, arm, parameters FROM v_curriculum"
    found = [(step, arm, json.loads(parameters)["documents"]) for step, arm, parameters in run.rows(query)]
    assert {step for step, *_ in found} == {1, 2, 3}
    assert all(arm == f"documents={number}" for _, arm, number in found)
    counts = """SELECT k.payload, e.parameters FROM tasks k JOIN episodes e ON e.id = k.episode_id"""
    for payload, parameters in run.rows(counts):
        assert len(json.loads(payload)["documents"]) == json.loads(parameters)["documents"]
