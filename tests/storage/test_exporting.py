"""A run that leaves its database: read back equal, loaded by the programs it is for, taken in by another database."""

from __future__ import annotations

import importlib
import json
import sqlite3
import sys
import tarfile
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparring.envs.types import Parsed, Segment, Turn
from sparring.scenarios.errors import MissingExtra, RunNotFound, StoreError
from sparring.storage import queries
from sparring.storage.exporting import archive
from sparring.storage.exporting.archive import NOTE, ROWS, pack, unpack
from sparring.storage.exporting.copying import owned
from sparring.storage.exporting.inspect_log import write_inspect
from sparring.storage.exporting.jsonl import read_jsonl, write_jsonl
from sparring.storage.exporting.parquet import write_parquet
from sparring.storage.exporting.plain import from_plain, to_plain
from sparring.storage.exporting.trl import FORMS, write_trl
from sparring.storage.hashes import episode_hash
from sparring.storage.records import StepRecord
from sparring.storage.samples import sample_step
from sparring.storage.schema import HEAD
from sparring.storage.store import Store
from sparring.storage.tables import Base
from sparring.storage.view_columns import COLUMNS
from sparring.storage.views import VIEWS

ODD = 'a\x00b\ud800 "\\u0000" escaped:é'


def odd_step(number: int) -> StepRecord:
    """A sample step whose first episode holds text no database stores, unknown log-probs and values JSON lacks."""
    step = sample_step(number, episodes=4)
    first, second, *rest = step.episodes[0].turns
    turn = replace(first, said=ODD, logprobs=(float("nan"),) * len(first.token_ids), parsed=Parsed("x", {1: (2, ODD)}))
    return replace(step, episodes=(replace(step.episodes[0], turns=(turn, second, *rest)), *step.episodes[1:]))


@pytest.fixture
def odd(store: Store) -> Store:
    """Run r1 with odd episodes."""
    store.start_run("odd", {"name": "odd"}, "odd", 0)
    for number in range(2):
        store.save_step("r1", odd_step(number))
    store.finish_run("r1", "done")
    return store


def test_every_episode_comes_back_from_json_lines_equal(odd: Store, tmp_path: Path) -> None:
    assert write_jsonl(odd, "r1", tmp_path / "r1.jsonl") == 8
    lines = list(read_jsonl(tmp_path / "r1.jsonl"))
    stored = queries.stored_episodes(odd, "r1")
    assert [episode_hash(line.episode) for line in lines] == [episode_hash(kept.episode) for kept in stored]
    assert lines[1].episode == stored[1].episode and lines[0].episode.turns[0].said == ODD
    assert [line.step for line in lines] == [0] * 4 + [1] * 4 and lines[0].arm == "depth=1"


def test_json_lines_hold_every_advantage(filled: Store, tmp_path: Path) -> None:
    write_jsonl(filled, "r1", tmp_path / "r1.jsonl")
    ours = sum(len(line.advantages) for line in read_jsonl(tmp_path / "r1.jsonl"))
    assert ((ours,),) == queries.select_rows(filled, "SELECT count(*) FROM advantages").rows


@given(
    said=st.text(st.characters(), max_size=20),
    value=st.recursive(st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.tuples(inner)),
    logprob=st.floats(max_value=0, width=32),
)
def test_any_turn_comes_back_from_json(said: str, value: object, logprob: float) -> None:
    parsed, heard = Parsed("k", value), Segment(said, (1,))
    turn = Turn(0, None, "n", "a", said, context=heard, token_ids=(7,), logprobs=(logprob,), parsed=parsed)
    episode = replace(sample_step(0, 1).episodes[0], turns=(turn,), tasks=(), scores={}, rubrics={})
    assert episode_hash(from_plain(json.loads(json.dumps(to_plain(episode))))) == episode_hash(episode)


def test_a_changed_line_is_named(filled: Store, tmp_path: Path) -> None:
    write_jsonl(filled, "r1", tmp_path / "r1.jsonl")
    lines = (tmp_path / "r1.jsonl").read_text().splitlines()
    (tmp_path / "r1.jsonl").write_text("\n".join([lines[0], lines[1].replace("accepted", "refused!"), "{"]))
    with pytest.raises(StoreError, match="line 2: the episode does not match its hash"):
        list(read_jsonl(tmp_path / "r1.jsonl"))
    (tmp_path / "r1.jsonl").write_text("{")
    with pytest.raises(StoreError, match="line 1: no exported episode"):
        list(read_jsonl(tmp_path / "r1.jsonl"))


@pytest.mark.parametrize("write", [write_jsonl, write_trl, write_parquet])
def test_an_export_never_overwrites_and_an_unknown_run_leaves_nothing(
    filled: Store, tmp_path: Path, write: Callable[..., Any]
) -> None:
    out = tmp_path / "out"
    out.write_text("mine")
    with pytest.raises(StoreError, match="there already"):
        write(filled, "r1", out)
    with pytest.raises(RunNotFound):
        write(filled, "r7", tmp_path / "else")
    assert out.read_text() == "mine" and not (tmp_path / "else").exists()


def test_parquet_holds_the_rows_of_every_view_of_one_run(filled: Store, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="Parquet needs pyarrow")
    from pyarrow.parquet import read_table  # type: ignore[import-untyped]  # it has no stubs

    filled.start_run("other", {"name": "other"}, "other", 0)
    filled.save_step("r2", sample_step(0, episodes=2))
    counts = write_parquet(filled, "r1", tmp_path / "out")
    assert set(counts) == set(VIEWS) - {"v_columns"} | {"tokens"}
    for view in set(counts) - {"tokens"}:
        asked = queries.select_rows(filled, f"SELECT * FROM {view} WHERE run = 'r1'", 100_000)
        read = read_table(tmp_path / "out" / f"{view}.parquet").to_pydict()
        assert tuple(read) == asked.columns and list(zip(*read.values(), strict=True)) == list(asked.rows)
    tokens = read_table(tmp_path / "out" / "tokens.parquet").to_pylist()
    turn = queries.episode(filled, "r1", "r1/0/0").turns[0]
    assert tuple(tokens[0]["token_ids"]) == turn.token_ids and tuple(tokens[0]["logprobs"]) == turn.logprobs


@pytest.mark.parametrize("view", [view for view in COLUMNS if view != "v_columns"])
def test_the_columns_of_every_view_have_the_type_they_are_said_to_have(filled: Store, view: str) -> None:
    types = {"json": "text"}
    assert tuple(COLUMNS[view]) == queries.select_rows(filled, f"SELECT * FROM {view} LIMIT 0").columns
    for name, (kind, _) in COLUMNS[view].items():
        found = queries.select_rows(filled, f'SELECT DISTINCT typeof("{name}") FROM {view}').rows
        allowed = {types.get(kind, kind), "null"} | ({"integer"} if kind == "real" else set())
        assert {row[0] for row in found} <= allowed, name


def test_a_data_set_loads_with_datasets_in_both_forms(odd: Store, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="the reader this layout is for")
    count = write_trl(odd, "r1", tmp_path / "out")
    kept = {"cache_dir": str(tmp_path / "cache"), "split": "train"}
    for form in FORMS:
        whole = datasets.load_dataset(str(tmp_path / "out"), form, **kept)
        plain = datasets.load_dataset("json", data_files=str(tmp_path / "out" / f"{form}.jsonl"), **kept)
        assert len(whole) == len(plain) == count and whole.features == plain.features
        assert {"reward", "reward_verifier", "reward_rubric", "advantage", "prompt", "completion"} <= set(
            whole.features
        )
    solver = whole.filter(lambda row: row["role"] == "solver", load_from_cache_file=False)[0]
    assert solver["messages"] == solver["prompt"] + solver["completion"]
    assert solver["completion"][0]["role"] == "assistant" and solver["reward_verifier"] in (0.0, 1.0)


def test_prompt_and_completion_are_the_tokens_that_were_trained_on(filled: Store, tmp_path: Path) -> None:
    write_trl(filled, "r1", tmp_path / "out")
    rows = [json.loads(line) for line in (tmp_path / "out" / "prompt_completion.jsonl").read_text().splitlines()]
    assert all(bytes(row["prompt_ids"]).decode() == row["prompt"] for row in rows)  # a sample token is a byte
    assert all(bytes(row["completion_ids"]).decode() == row["completion"] for row in rows)


def test_a_conversation_goes_on_in_the_prompt_under_what_it_is_trained_under(store: Store, tmp_path: Path) -> None:
    episode = sample_step(0, 1).episodes[0]
    first = Turn(0, None, "n", "solver", "one", context=Segment("Q+hint", (1, 2)), train_context=Segment("Q", (1,)),
                 token_ids=(3,), logprobs=(-1.0,))  # fmt: skip
    later = Turn(1, 0, "n", "solver", "two", follows=0, context=Segment("R", (4,)), token_ids=(5,), logprobs=(-1.0,))
    alone = Turn(2, 1, "n", "solver", "six", follows=1, context=Segment("R", (4,)), train_context=Segment("Q", (1,)),
                 token_ids=(6,), logprobs=(-1.0,))  # fmt: skip
    bare = replace(episode, turns=(first, later, alone), tasks=(), scores={}, rubrics={})
    store.start_run("talk", {}, "talk", 0)
    store.save_step("r1", replace(sample_step(0, 1), episodes=(bare,), groups=(), advantages=()))
    write_trl(store, "r1", tmp_path / "out")
    row = json.loads((tmp_path / "out" / "messages.jsonl").read_text().splitlines()[1])
    assert [(part["role"], part["content"]) for part in row["messages"]] == [
        ("user", "Q"), ("assistant", "one"), ("user", "R"), ("assistant", "two")
    ]  # fmt: skip
    _, exact, last = map(json.loads, (tmp_path / "out" / "prompt_completion.jsonl").read_text().splitlines())
    assert (exact["prompt"], exact["prompt_ids"]) == ("QoneR", [1, 3, 4]) and row["reward"] is None
    assert (last["prompt"], last["prompt_ids"], last["completion"]) == ("Q", [1], "six")


@pytest.mark.inspect
@pytest.mark.parametrize("ending", [".eval", ".json"])
def test_inspect_reads_its_log_back(odd: Store, tmp_path: Path, ending: str) -> None:
    log = importlib.import_module("inspect_ai.log")
    out = tmp_path / f"r1{ending}"
    count = write_inspect(odd, "r1", out)
    read = log.read_eval_log(str(out))
    assert read.status == "success" and len(read.samples) == count == read.results.total_samples
    episode = queries.episode(odd, "r1", "r1/0/1")
    samples = {sample.id: sample for sample in read.samples}
    for turn in episode.turns:
        if turn.token_ids:
            sample = samples[f"r1/0/1/{turn.index}"]
            assert sample.output.completion == turn.said and sample.metadata["role"] == turn.author
            assert {name: score.value for name, score in sample.scores.items()} == {
                score.name: score.value for score in episode.scores[turn.index] if score.value is not None
            }


def test_a_log_without_inspect_names_the_line_to_type(
    filled: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "inspect_ai.log", None)
    with pytest.raises(MissingExtra, match=r"pip install 'sparring\[inspect\]'"):
        write_inspect(filled, "r1", tmp_path / "r1.eval")
    with pytest.raises(StoreError, match="ends in"):
        write_inspect(filled, "r1", tmp_path / "r1.txt")
    assert not (tmp_path / "r1.eval").exists()


@pytest.fixture
def other(tmp_path: Path) -> Store:
    """Another machine's database, with a run of its own."""
    (tmp_path / "there").mkdir()
    found = Store(tmp_path / "there" / "sparring.db")
    found.start_run("theirs", {"name": "odd"}, "odd", 5)
    found.save_step("r1", sample_step(0, episodes=3, seed=9))
    return found


@pytest.mark.parametrize("name", ["a", "a.tar.gz"])
def test_an_archive_gives_another_database_the_same_run(odd: Store, other: Store, tmp_path: Path, name: str) -> None:
    with other:
        mine = queries.run_hash(other, "r1")
        made = pack(odd, "r1", tmp_path / name, {})
        assert unpack(other, tmp_path / name) == {"r1": "r2"} and unpack(other, tmp_path / name) == {"r1": "r3"}
        for run in ("r2", "r3"):
            assert queries.run_hash(other, run) == made.runs["r1"] == queries.run_hash(odd, "r1")
            assert queries.damaged(other, run) == [] and other.run(run).status == "done"
        assert queries.run_hash(other, "r1") == mine
        assert len(queries.select_rows(other, "SELECT * FROM scenarios").rows) == 1  # the same one
        other.save_step("r3", odd_step(2))  # the run can go on


def test_only_the_run_itself_is_in_its_archive(filled: Store, tmp_path: Path) -> None:
    filled.start_run("other", {"name": "other"}, "other", 0)
    filled.save_step("r2", sample_step(7, episodes=2))
    pack(filled, "r2", tmp_path / "a", {})
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [NOTE, ROWS, "scenario.json"]
    with closing(sqlite3.connect(tmp_path / "a" / ROWS)) as connection:
        assert connection.execute("SELECT id, name FROM runs").fetchall() == [(2, "other")]
        assert connection.execute("SELECT digest FROM scenarios").fetchall() == [("other",)]
        assert connection.execute("SELECT count(*) FROM episodes").fetchone() == (2,)


def test_the_runs_an_archived_run_learnt_from_come_along(filled: Store, other: Store, tmp_path: Path) -> None:
    filled.start_run("offline", {"name": "offline"}, "offline", 0)
    lent = queries.stored_episodes(filled, "r1", range(1, 2))
    step = replace(
        sample_step(0, 1), episodes=(), picks=(), groups=(), advantages=(), borrowed=(lent[0].id, lent[2].id)
    )
    filled.save_step("r2", step)
    with other:
        pack(filled, "r2", tmp_path / "a", {})
        assert unpack(other, tmp_path / "a") == {"r1": "r2", "r2": "r3"}
        assert queries.run_hash(other, "r3") == queries.run_hash(filled, "r2")


def spoil_rows(folder: Path) -> None:
    """Change a word, and the note with it: only the content's hash can tell."""
    with closing(sqlite3.connect(folder / ROWS)) as connection, connection:
        connection.execute("UPDATE turns SET said = said || '!' WHERE id = (SELECT min(id) FROM turns)")
    sign(folder)


def spoil_metrics(folder: Path) -> None:
    with closing(sqlite3.connect(folder / ROWS)) as connection, connection:
        connection.execute("""UPDATE steps SET metrics = '{"loss": 0.0}', hash = NULL""")
    sign(folder)


def newer(folder: Path) -> None:
    with closing(sqlite3.connect(folder / ROWS)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    sign(folder)


def sign(folder: Path, **changes: Any) -> None:
    note = json.loads((folder / NOTE).read_text())
    note["files"][ROWS] = archive._digest(folder / ROWS)
    (folder / NOTE).write_text(json.dumps(note | changes))


SPOILT: list[tuple[Callable[[Path], Any], str]] = [
    (spoil_rows, "do not match the hash they were saved with"),
    (spoil_metrics, "do not give the hash"),
    (newer, f"schema 9999, this Sparring knows {HEAD}"),
    (lambda folder: (folder / "scenario.json").write_text("{}"), "scenario.json is damaged"),
    (lambda folder: (folder / "scenario.json").unlink(), "scenario.json is gone"),
    (lambda folder: (folder / "more").write_text(""), "more is not of this archive"),
    (lambda folder: (folder / NOTE).unlink(), "is no archive of a run"),
    (lambda folder: sign(folder, format=2), "archive format 2"),
    (lambda folder: sign(folder, checkpoints={"1": "../../x"}), "is no folder's name"),
    (lambda folder: sign(folder, checkpoints={"../1": "x"}), "is no folder's name"),
]


@pytest.mark.parametrize(("spoil", "message"), SPOILT)
def test_a_spoilt_archive_is_refused_and_changes_nothing(
    filled: Store, other: Store, tmp_path: Path, spoil: Callable[[Path], Any], message: str
) -> None:
    pack(filled, "r1", tmp_path / "a", {})
    spoil(tmp_path / "a")
    with other:
        with pytest.raises(StoreError, match=message):
            unpack(other, tmp_path / "a")
        assert [row.id for row in queries.runs(other)] == ["r1"]
    assert sorted(path.name for path in (tmp_path / "there").iterdir()) == ["sparring.db"]


def test_a_link_out_of_an_archive_is_refused(other: Store, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc/passwd")
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as packed:
        packed.add(tmp_path / "link", arcname="a/run.db")
    with other, pytest.raises(StoreError, match="cannot be read as an archive"):
        unpack(other, tmp_path / "a.tar.gz")


def test_a_damaged_run_is_not_archived(filled: Store, file: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("UPDATE turns SET said = 'x' WHERE id = 1")
    with pytest.raises(StoreError, match=r"1 episodes do not match .*r1/0/0"):
        pack(filled, "r1", tmp_path / "a", {})
    assert not (tmp_path / "a").exists() and not list(tmp_path.glob(".a*"))


@pytest.mark.parametrize("name", Base.metadata.tables)
def test_every_table_is_known_to_belong_to_runs(name: str) -> None:
    assert "{runs}" in owned(name)
