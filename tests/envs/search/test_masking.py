"""Masked questions: the answer is not in the question, is unique, not guessable, and never from the other half."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from sparring.envs.search.answers import holds, normal
from sparring.envs.search.documents import Document
from sparring.envs.search.env import SearchEnvironment
from sparring.envs.search.fiction import invent
from sparring.envs.search.index import Index
from sparring.envs.search.masking import BLANK, COMMON, HOPS, KINDS, clue, held_out, questions, shortened
from sparring.envs.types import Task
from sparring.scenarios.errors import ScenarioError


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(seed))


@pytest.mark.parametrize("hops", HOPS)
@pytest.mark.parametrize("kind", KINDS)
def test_no_question_holds_its_answer_and_no_answer_is_right_often(pydoc: Index, kind: str, hops: int) -> None:
    found = questions(pydoc, kind, hops)
    assert len(found) > 30
    assert all(BLANK in one.text and not any(holds(one.text, answer) for answer in one.answers) for one in found)
    assert len({one.text for one in found}) == len(found)
    counts = Counter(normal(one.answers[0]) for one in found)
    assert counts.most_common(1)[0][1] <= max(1, COMMON * len(found))


def test_training_and_evaluation_never_ask_about_one_document(pydoc: Index) -> None:
    environment = SearchEnvironment()
    trained = {environment.sample({"kind": "name"}, rng(seed)).secret["document"] for seed in range(40)}
    asked = {environment.held_out({"kind": "name"}, rng(seed)).secret["document"] for seed in range(40)}
    assert not trained & asked
    assert all(held_out(name) for name in asked) and not any(map(held_out, trained))


def test_a_second_hop_is_needed_because_no_result_shows_the_answer(pydoc: Index) -> None:
    environment = SearchEnvironment()
    for seed in range(10):
        task = environment.sample({"kind": "default", "hops": 2}, rng(seed))
        environment.reset(seed=seed, options={"task": task})
        shown = environment.step(environment.oracle() or "")[0]
        assert not holds(shown, task.secret["reference"])
        opened = environment.step(environment.oracle() or "")[0]
        assert holds(opened, task.secret["reference"])
        assert environment.step(environment.oracle() or "")[1] == 1.0


def test_a_question_is_cut_only_where_the_blank_stays(pydoc: Index) -> None:
    parts = [one.text.split() for one in questions(pydoc, "number", 1)]
    late = next(place for place, words in enumerate(parts) if not any(BLANK in word for word in words[:4]))
    long = questions(pydoc, "number", 1)[late]
    assert shortened(long, 3) is None
    assert clue("____: Copy a tree, slowly.", 3) == "Copy a tree,"


def test_a_corpus_without_fitting_questions_says_what_to_change(pydoc: Index) -> None:
    with pytest.raises(ScenarioError, match="gives no question of kind name"):
        SearchEnvironment({"longest_question": 10}).sample({"kind": "name"}, rng())


def episode(environment: SearchEnvironment, task: Task) -> list[str]:
    """Everything the policy reads when it plays the oracle."""
    said, _ = environment.reset(seed=3, options={"task": task})
    read = [said, str(dict(task.payload))]
    for _ in range(5):
        said, reward, over, _, _ = environment.step(environment.oracle() or "")
        read.append(said)
        if over:
            assert reward == 1.0
            break
    return read


@pytest.mark.parametrize(("kind", "hops"), [("name", 1), ("name", 2), ("exception", 1), ("default", 2), ("number", 1)])
def test_with_fiction_the_real_name_is_nowhere_in_what_the_policy_reads(pydoc: Index, kind: str, hops: int) -> None:
    environment = SearchEnvironment({"fictional": True})
    for seed in range(12):
        task = environment.sample({"kind": kind, "hops": hops}, rng(seed))
        read = "\n".join(episode(environment, task)).lower()
        parts = task.secret["document"].lower().split(".")
        assert parts[-1] not in read
        assert not any(holds(read, part) for part in parts)
        real = {invented: name for name, invented in task.secret["names"].items()}
        answer = task.secret["reference"]
        if answer in real and len(real[answer]) >= 5 and real[answer].isidentifier():
            assert real[answer].lower() not in read


def test_the_same_document_has_other_names_in_another_task_and_both_can_be_searched_for(pydoc: Index) -> None:
    environment = SearchEnvironment({"fictional": True, "longest_question": 60})
    one, other = (environment.sample({"kind": "name"}, rng(seed)) for seed in (1, 2))
    assert one.key != other.key and set(one.secret["names"].values()).isdisjoint(other.secret["names"].values())


def test_what_is_hidden_is_found_again_and_words_that_only_look_alike_stay() -> None:
    fiction = invent(["shutil", "copytree", "os", "42", "OSError"])
    text = "os.copytree: close os, 42 or 420 or 4.2; CopyTree raises OSError"
    hidden = fiction.hide(text)
    assert "close" in hidden and "420" in hidden and "4.2" in hidden
    assert not any(word in hidden.lower() for word in ("copytree", "oserror", "os."))
    assert fiction.reveal(hidden).lower() == text.lower()


def test_masking_works_on_a_corpus_of_ordinary_texts(index: Index) -> None:
    asked = questions(index, "number", 1)
    assert {one.answers[0] for one in asked} == {"150", "1000000", "2", "50"}
    assert Document("badger", "Badger", "") != index.document("badger")
