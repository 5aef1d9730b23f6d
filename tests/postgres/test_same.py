"""One run in a file and on a server: the same hash, the same rows in every view, the same text and numbers."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sparring.envs.types import Ending, Episode, Pick, Segment, Turn
from sparring.scenarios.errors import StoreError
from sparring.storage import codec, queries
from sparring.storage.records import EvaluationRow, GroupRow, StepRecord
from sparring.storage.samples import sample_step
from sparring.storage.store import Store
from sparring.storage.view_columns import COLUMNS
from sparring.storage.views import VIEWS

pytestmark = pytest.mark.postgres

OF_A_RUN = [view for view in VIEWS if "run" in COLUMNS[view]]


@pytest.fixture
def pair(store: Store, tmp_path: Path) -> Iterator[tuple[Store, Store]]:
    """The same run in both; it borrows, and its second step has two trainers whose names sort otherwise in English."""
    with Store(tmp_path / "sparring.db") as file:
        for one in (file, store):
            one.start_run("sample", {"name": "sample"}, "digest", 0)
            one.save_step("r1", sample_step(0, episodes=4))
            kept = [row.id for row in queries.stored_episodes(one, "r1")][:2]
            groups = tuple(
                GroupRow(number, "solver", "solve", "step", 2, -0.0, 0.0, trainer=name)
                for number, name in enumerate(("rl", "Zeta", "alpha", "_own"))
            )
            found = EvaluationRow(1, "accuracy", 0.5, 10, {"é": [1, (2, None)]})
            one.save_step("r1", StepRecord(1, groups=groups, borrowed=tuple(kept), evaluations=(found,)))
            one.save_step("r1", sample_step(2, episodes=3))
        yield file, store


def rows(store: Store, view: str) -> list[tuple[Any, ...]]:
    """Every row of a run in a view, in one order, without integer ids and the time it was saved; numbers rounded."""
    answer = queries.select_rows(store, f"SELECT * FROM {view} WHERE run = 'r1'", 100_000)
    left_out = {answer.columns.index(name) for name in ("episode_id", "saved_at") if name in answer.columns}
    found = [tuple(_rounded(v) for at, v in enumerate(row) if at not in left_out) for row in answer.rows]
    return sorted(found, key=repr)


def _rounded(value: Any) -> Any:
    return float(f"{value:.9g}") if isinstance(value, float) else value


def test_a_run_has_one_hash(pair: tuple[Store, Store]) -> None:
    file, server = pair
    assert queries.run_hash(file, "r1") == queries.run_hash(server, "r1")


@pytest.mark.parametrize("view", OF_A_RUN)
def test_every_view_has_the_same_rows(pair: tuple[Store, Store], view: str) -> None:
    file, server = pair
    assert rows(file, view) == rows(server, view)
    assert rows(file, view) or view in ("v_alarms", "v_rescores")


def test_the_views_say_what_their_columns_mean(store: Store) -> None:
    asked = 'SELECT "view", number, "column", "type", meaning FROM v_columns ORDER BY 1, 2'
    with Store.memory() as memory:
        assert queries.select_rows(store, asked).rows == queries.select_rows(memory, asked).rows
    asked = "SELECT col_description('v_steps'::regclass, 2)"
    assert queries.select_rows(store, asked).rows == ((COLUMNS["v_steps"]["step"][1],),)


BLOBS = st.one_of(
    st.lists(st.integers(0, 255), min_size=1).map(codec.pack_tokens),
    st.lists(st.integers(0, 2**16 - 1), min_size=1).map(codec.pack_tokens),
    st.lists(st.integers(0, 2**24 - 1), min_size=1).map(codec.pack_tokens),
    st.lists(st.integers(0, 2**32 - 1), min_size=1).map(codec.pack_tokens),
    st.lists(st.floats(width=32), min_size=1).map(codec.pack_logprobs),
    st.lists(st.floats(), min_size=1).map(codec.pack_logprobs),
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(blob=BLOBS)
def test_a_blob_is_the_same_list(store: Store, blob: bytes) -> None:
    """Read as JSON, each number is exactly what went in, and an integer stays one."""
    (told,) = queries.select_rows(store, f"SELECT sparring_tokens('\\x{blob.hex()}'::bytea)").rows[0]
    expected = [None if isinstance(n, float) and not math.isfinite(n) else n for n in codec.unpack_tokens(blob)]
    found = json.loads(told)
    assert [(type(n), repr(n)) for n in found] == [(type(n), repr(n)) for n in expected]


@pytest.mark.parametrize("blob", ["", "99", "1401", "15000000", "16000000"])
def test_what_is_no_blob_of_tokens_is_an_error(store: Store, blob: str) -> None:
    with pytest.raises(StoreError, match="damaged blob"):
        queries.select_rows(store, f"SELECT sparring_tokens('\\x{blob}'::bytea)")
    assert queries.select_rows(store, "SELECT sparring_tokens(NULL)").rows == ((None,),)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(said=st.text(st.characters(exclude_categories=()), min_size=0))
def test_any_text_a_model_writes_comes_back(memory: Store, said: str) -> None:
    """NUL and lone surrogates, which no server takes, are among it."""
    number = len(queries.steps(memory, "r1"))
    turn = Turn(0, None, "solve", "solver", said, context=Segment(said, (1,)), token_ids=(7,), logprobs=(-0.5,))
    episode = Episode(0, 0, {"said": said}, (turn,), (), {}, {}, {}, Ending.DONE, error=said)
    memory.save_step("r1", StepRecord(number, picks=(Pick("all"),), episodes=(episode,), state={"said": said}))
    assert queries.episode(memory, "r1", f"r1/{number}/0") == episode


def test_metrics_are_read_in_sql_by_the_same_words(pair: tuple[Store, Store]) -> None:
    asked = "SELECT CAST(json_extract(metrics, '$.loss') AS double precision) FROM v_steps WHERE step = 2"
    file, server = (queries.select_rows(one, asked).rows for one in pair)
    assert file == server and isinstance(server[0][0], float)


def test_integers_of_64_bits_and_sums_of_them_come_back(memory: Store) -> None:
    turns = tuple(Turn(at, None, "solve", "solver", "x", seed=2**63 - 1 - at) for at in range(2))
    episode = Episode(0, 0, {}, turns, (), {}, {}, {}, Ending.DONE)
    memory.save_step("r1", StepRecord(0, picks=(Pick("all"),), episodes=(episode,)))
    found = queries.select_rows(memory, "SELECT max(seed), sum(n_tokens), avg(n_tokens) FROM turns").rows
    assert found == ((2**63 - 1, 0, 0),) and isinstance(found[0][1], int)
