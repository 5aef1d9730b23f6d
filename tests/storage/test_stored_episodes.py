"""Stored episodes come back whole, in order, to be learnt from again."""

import dataclasses
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparring.envs.types import (
    Criterion,
    CriterionKind,
    CriterionScore,
    Ending,
    Episode,
    Finish,
    Parsed,
    Pick,
    Refusal,
    Rubric,
    Score,
    Segment,
    Span,
    Task,
    Turn,
    Validity,
)
from sparring.scenarios.errors import RunNotFound
from sparring.storage import queries
from sparring.storage.hashes import episode_hash
from sparring.storage.records import StepRecord
from sparring.storage.samples import sample_step
from sparring.storage.store import Store

words = st.text(st.characters(exclude_categories=()), max_size=8)
token_ids = st.lists(st.integers(0, 2**32 - 1), max_size=4).map(tuple)
figures = st.floats(-1e6, 1e6)
segments = st.none() | st.builds(Segment, words, token_ids)
tasks = st.builds(
    Task,
    words,
    st.dictionaries(words, words | figures, max_size=2),
    st.dictionaries(words, st.lists(words, max_size=2), max_size=1),
    skills=st.lists(words, max_size=2).map(tuple),
    origin=words,
    parent=st.none() | words,
    operator=st.none() | words,
)


@st.composite
def episodes(draw: st.DrawFn, index: int) -> Episode:
    """Any tree of turns with whatever may hang on it."""
    given_tasks = tuple(draw(st.lists(tasks, max_size=2)))
    turns = tuple(draw(turn(at, [task.key for task in given_tasks])) for at in range(draw(st.integers(0, 5))))
    some = st.sets(st.sampled_from(range(len(turns))), max_size=3) if turns else st.just(set[int]())
    return Episode(
        index=index,
        pick=draw(st.integers(0, 1)),
        parameters=draw(st.dictionaries(words, figures, max_size=2)),
        turns=turns,
        tasks=given_tasks,
        scores={at: tuple(draw(st.lists(scores, min_size=1, max_size=2))) for at in draw(some)},
        rubrics={at: draw(rubrics(len(turns))) for at in draw(some)},
        refusals={at: Refusal(draw(words), draw(words)) for at in draw(some)},
        ending=draw(st.sampled_from(Ending)),
        error=draw(words),
        seconds=draw(figures),
    )


@st.composite
def turn(draw: st.DrawFn, index: int, keys: list[str]) -> Turn:
    said = draw(token_ids)
    logprob = st.floats(max_value=0, width=32, allow_nan=False) | st.just(math.nan)
    before = st.none() | st.integers(0, index - 1) if index else st.none()
    return Turn(
        index=index,
        parent=draw(before),
        node=draw(words),
        author=draw(words),
        said=draw(words),
        sample=draw(st.integers(0, 9)),
        follows=draw(before),
        context=draw(segments),
        train_context=draw(segments),
        token_ids=said,
        logprobs=tuple(draw(logprob) for _ in said),
        finish=draw(st.none() | st.sampled_from(Finish)),
        policy_version=draw(st.integers(0, 3)),
        engine=draw(words),
        parsed=draw(st.none() | st.builds(Parsed, words, words | st.tuples(words), st.none() | words)),
        task=draw(st.none() | st.sampled_from([*keys, "elsewhere"])),
        seed=draw(st.integers(0, 2**63 - 1)),
        spans=tuple(draw(st.lists(st.builds(Span, *[st.integers(0, 5)] * 3), max_size=2))),
    )


shares = st.builds(
    CriterionScore,
    st.none() | st.integers(0, 9),
    st.integers(0, 9),
    st.none() | figures,
    st.sampled_from(Validity),
    words,
)
scores = st.builds(
    Score, words, st.none() | figures, st.sampled_from(Validity), words, words, st.lists(shares, max_size=2).map(tuple)
)


def rubrics(turns: int) -> st.SearchStrategy[Rubric]:
    criteria = st.lists(st.builds(Criterion, words, figures, st.sampled_from(CriterionKind), words), max_size=3)
    author = st.none() | st.integers(0, turns - 1)
    return st.builds(Rubric, criteria.map(tuple), author, st.integers(1, 9), words)


def plain(episode: Episode) -> Episode:
    """``episode`` with unknown log-probs as 1.0: NaN is not equal to itself."""
    turns = [
        turn.amended(logprobs=tuple(1.0 if math.isnan(value) else value for value in turn.logprobs))
        for turn in episode.turns
    ]
    return dataclasses.replace(episode, turns=tuple(turns))


@settings(max_examples=40, deadline=None)
@given(st.data(), st.integers(0, 3))
def test_any_episode_comes_back_equal(data: st.DataObject, count: int) -> None:
    saved = tuple(data.draw(episodes(index)) for index in range(count))
    with Store.memory() as store:
        store.start_run("any", {}, "digest", 0)
        store.save_step("r1", StepRecord(4, picks=(Pick("a"), Pick("b")), episodes=saved))
        found = queries.stored_episodes(store, "r1")
        assert [stored.step for stored in found] == [4] * count
        assert [plain(stored.episode) for stored in found] == [plain(episode) for episode in saved]
        assert [episode_hash(stored.episode) for stored in found] == [episode_hash(episode) for episode in saved]
        assert queries.damaged(store, "r1") == []


def test_a_demonstrations_unknown_logprobs_stay_unknown(store: Store) -> None:
    store.start_run("taught", {}, "digest", 0)
    told = Turn(0, None, "solve", "solver", "12", token_ids=(7, 300), logprobs=(math.nan, -0.5), finish=Finish.STOP)
    episode = Episode(0, 0, {}, (told,), (), {}, {}, {}, Ending.DONE)
    store.save_step("r1", StepRecord(0, picks=(Pick("all"),), episodes=(episode,)))
    ((turn,),) = [stored.episode.turns for stored in queries.stored_episodes(store, "r1")]
    assert math.isnan(turn.logprobs[0]) and (turn.logprobs[1], turn.token_ids) == (-0.5, (7, 300))


def test_stored_episodes_are_ordered_and_paged(filled: Store) -> None:
    every = queries.stored_episodes(filled, "r1")
    assert [(stored.step, stored.episode.index) for stored in every] == [(n, at) for n in range(3) for at in range(4)]
    assert [stored.episode for stored in every] == [
        one for n in range(3) for one in sample_step(n, episodes=4).episodes
    ]
    assert len({stored.id for stored in every}) == 12
    pages = [queries.stored_episodes(filled, "r1", limit=5, offset=at) for at in range(0, 15, 5)]
    assert [stored for page in pages for stored in page] == every


@pytest.mark.parametrize(
    ("steps", "expected"),
    [(range(1, 3), [1, 2]), (range(0, 9, 2), [0, 2]), (range(2, 0, -1), [1, 2]), (range(5, 9), []), (range(0), [])],
)
def test_steps_are_picked_by_a_range(filled: Store, steps: range, expected: list[int]) -> None:
    found = queries.stored_episodes(filled, "r1", steps)
    assert [stored.step for stored in found] == [step for step in expected for _ in range(4)]


def test_another_runs_episodes_stay_out(filled: Store) -> None:
    other = filled.start_run("other", {}, "digest", 1).id
    assert queries.stored_episodes(filled, other) == []
    with pytest.raises(RunNotFound, match="no run r9"):
        queries.stored_episodes(filled, "r9")


def test_stretches_of_several_policies_are_text_for_people_and_null_where_there_is_one() -> None:
    mixed = sample_step(0, episodes=1)
    (first, *rest) = mixed.episodes[0].turns
    turns = (first.amended(spans=(Span(0, 0, 2), Span(1, 2, 5))), *rest)
    episode = dataclasses.replace(mixed.episodes[0], turns=turns)
    with Store.memory() as store:
        store.start_run("any", {}, "digest", 0)
        store.save_step("r1", dataclasses.replace(mixed, episodes=(episode,)))
        found = queries.select_rows(store, "SELECT DISTINCT spans FROM v_turns ORDER BY 1").rows
    assert [row[0] for row in found] == [None, "[[0,0,2],[1,2,5]]"]


def test_a_score_of_minus_zero_keeps_its_episode_whole() -> None:
    sample = sample_step(0, episodes=1)
    scores = {0: (Score.valued("verifier", -0.0, "test"),)}
    episode = dataclasses.replace(sample.episodes[0], scores=scores)
    with Store.memory() as store:
        store.start_run("any", {}, "digest", 0)
        store.save_step("r1", dataclasses.replace(sample, episodes=(episode,)))
        assert queries.damaged(store, "r1") == []
