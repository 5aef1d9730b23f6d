"""Tokens of old steps go, words stay, hashes cover what is left, and who needs the tokens is told."""

import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from sparring.scenarios.errors import RunBusy, StoreError
from sparring.storage import queries
from sparring.storage.exporting.archive import pack, unpack
from sparring.storage.exporting.jsonl import read_jsonl, write_jsonl
from sparring.storage.pruning import judge
from sparring.storage.samples import sample_step
from sparring.storage.store import Store
from sparring.storage.thinning import Thinning, dropped_on, refuse_thinned, thin, weigh
from sparring.storage.verifying import verify_at


@pytest.fixture
def done(store: Store) -> Store:
    """Run r1 of steps 0 to 3, over; step 3 learnt again from an episode of step 0."""
    store.start_run("sample", {"name": "sample"}, "digest", 0)
    for number in range(4):
        step = sample_step(number, episodes=3)
        learnt = replace(step.advantages[0], tokens=(0.5,) * step.advantages[0].n_tokens)
        lent = tuple(one.id for one in queries.stored_episodes(store, "r1", limit=1)) if number == 3 else ()
        store.save_step("r1", replace(step, advantages=(learnt, *step.advantages[1:]), borrowed=lent))
    store.finish_run("r1", "done")
    return store


def chosen(store: Store, keep_runs: int = 0, keep_steps: int = 0, before: str = "") -> list[Thinning]:
    return [one for one in weigh(store, keep_runs, keep_steps, before) if not one.kept]


def blobs(store: Store, of: str, column: str) -> int:
    return int(queries.select_rows(store, f"SELECT count({column}) FROM {of}").rows[0][0])


def test_old_steps_lose_their_tokens_and_every_word_stays(done: Store) -> None:
    before = queries.stored_episodes(done, "r1")
    (one,) = chosen(done, keep_steps=1)
    assert (len(one.steps), one.episodes) == (3, 9) and one.bytes > 1000
    thin(done, [one])
    after = queries.stored_episodes(done, "r1")
    assert [[turn.said for turn in kept.episode.turns] for kept in after] == [
        [turn.said for turn in kept.episode.turns] for kept in before
    ]
    assert all(not turn.token_ids and not turn.logprobs for kept in after[:9] for turn in kept.episode.turns)
    assert [kept.episode for kept in after[9:]] == [kept.episode for kept in before[9:]]
    assert all(turn.context is None or turn.context.text for kept in after for turn in kept.episode.turns)
    assert blobs(done, "advantages", "tokens") == 1  # of the step that kept its tokens


def test_what_is_left_is_covered_by_its_hashes(done: Store, file: Path) -> None:
    """Bites: leave the hashes as they were, or thin without telling the step that borrowed."""
    thin(done, chosen(done, keep_steps=1))
    found = verify_at(str(file))
    assert (found.findings, found.thinned) == ([], 9)
    with closing(sqlite3.connect(file)) as other, other:
        other.execute("UPDATE turns SET said = 'x' WHERE id = 1")
    assert [finding.where for finding in verify_at(str(file)).findings] == ["r1/0/0"]


def test_the_rest_can_go_later(done: Store, file: Path) -> None:
    thin(done, chosen(done, keep_steps=2))
    assert blobs(done, "segments", "token_ids") > 0
    thin(done, chosen(done))
    assert verify_at(str(file)).findings == [] and chosen(done) == []
    assert [blobs(done, of, "token_ids") for of in ("segments", "turns")] == [0, 0]


def test_damaged_steps_keep_their_tokens(done: Store) -> None:
    assert done.path is not None
    with closing(sqlite3.connect(done.path)) as other, other:
        other.execute("UPDATE turns SET said = 'x' WHERE id = 1")
    with pytest.raises(StoreError, match=r"r1/0/0: .* so its tokens stay"):
        thin(done, chosen(done))
    assert dropped_on(done, "r1") is None


def test_runs_that_are_written_lent_or_new_keep_theirs(done: Store) -> None:
    for number, lender in ((2, ""), (3, "r1")):
        done.start_run(f"run {number}", {}, f"digest {number}", 0)
        lent = tuple(one.id for one in queries.stored_episodes(done, lender, limit=1)) if lender else ()
        done.save_step(f"r{number}", replace(sample_step(0, episodes=2), borrowed=lent))
    done.finish_run("r2", "done")
    assert [one.kept for one in weigh(done)] == ["r3 learnt from it", "", "being written"]
    assert [one.kept for one in weigh(done, keep_runs=2)][1] == "among the newest"
    with pytest.raises(RunBusy):
        thin(done, [replace(weigh(done)[1], run=done.run("r3"))])


def test_age_spares_what_is_newer(done: Store) -> None:
    assert done.path is not None
    assert chosen(done, before="2001-01-01T00:00:00Z") == []
    assert weigh(done, before="2001-01-01T00:00:00Z")[0].kept == "none is old enough to lose its tokens"
    assert [verdict.kept for verdict in judge(done, 0, "2001-01-01T00:00:00Z")] == ["not that old"]
    assert [verdict.kept for verdict in judge(done, 0, "2999-01-01T00:00:00Z")] == [""]
    assert len(chosen(done, before="2999-01-01T00:00:00Z")[0].steps) == 4


def test_who_needs_the_tokens_is_told_when_they_went(done: Store) -> None:
    refuse_thinned(done, "a replay", "r1")
    thin(done, chosen(done, keep_steps=3))
    moment = dropped_on(done, "r1", 0, 0)
    assert moment is not None and dropped_on(done, "r1", 1) is None
    with pytest.raises(StoreError, match=rf"r1/0/0: tokens were dropped on {moment[:10]} .*a replay needs them"):
        refuse_thinned(done, "a replay", "r1", 0, 0)


def test_exports_and_archives_of_thinned_runs_give_their_hashes(done: Store, tmp_path: Path) -> None:
    thin(done, chosen(done, keep_steps=2))
    assert write_jsonl(done, "r1", tmp_path / "r1.jsonl") == 12
    lines = list(read_jsonl(tmp_path / "r1.jsonl"))
    assert [bool(line.episode.turns[0].token_ids) for line in lines] == [False] * 6 + [True] * 6
    assert len(json.loads((tmp_path / "r1.jsonl").read_text().splitlines()[0])["episode"]["turns"]) == 17
    pack(done, "r1", tmp_path / "r1.tar.gz", {})
    with Store(tmp_path / "other.db") as other:
        unpack(other, tmp_path / "r1.tar.gz")
        assert queries.damaged(other, "r1") == [] and dropped_on(other, "r1") == dropped_on(done, "r1")
