"""``parquet``: one table per view, and one of tokens, each a file that pandas, Polars, DuckDB and ``datasets`` read.

Columns and types are those of ``view_columns.py``; text stands as in the database, its escapes included.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from sparring.scenarios.errors import MissingExtra

from ..store import Store, run_number
from ..tables import Episodes, Steps, Turns
from ..view_columns import COLUMNS
from .target import beside

_AT_ONCE = 4096  # rows in memory at a time
_TYPES = {"integer": "int64", "real": "float64", "text": "string", "json": "string"}
VIEWS = tuple(view for view in COLUMNS if "run" in COLUMNS[view])  # the others tell nothing of a run


def write_parquet(store: Store, run: str, out: Path) -> dict[str, int]:
    """Write ``out/v_steps.parquet`` and so on; returns the number of rows by file name without its ending.

    Raises ``MissingExtra`` without pyarrow, ``RunNotFound``, ``StoreError``.
    """
    try:
        import pyarrow  # type: ignore[import-untyped]  # it has no stubs
    except ImportError as error:
        raise MissingExtra("Parquet needs pyarrow: pip install 'sparring[export]'") from error
    store.run(run)
    with beside(out) as draft, store.read() as session:
        draft.mkdir()
        counts = {}
        for view in VIEWS:
            schema = pyarrow.schema([(name, _TYPES[kind]) for name, (kind, _) in COLUMNS[view].items()])
            counts[view] = _write(draft / f"{view}.parquet", schema, _view(session, view, run))
        numbers = (("token_ids", pyarrow.list_(pyarrow.uint32())), ("logprobs", pyarrow.list_(pyarrow.float64())))
        schema = pyarrow.schema([("episode", "string"), ("turn", "int64"), *numbers])
        counts["tokens"] = _write(draft / "tokens.parquet", schema, _tokens(session, run))
    return counts


def _view(session: Session, view: str, run: str) -> Iterator[tuple[Any, ...]]:
    """The rows of a run, with numbers as their column's type: SQL may hold a whole number where a real one is meant."""
    casts = [float if kind == "real" else None for kind, _ in COLUMNS[view].values()]
    names = ", ".join(f'"{name}"' for name in COLUMNS[view])
    for row in session.execute(text(f"SELECT {names} FROM {view} WHERE run = :run"), {"run": run}):
        yield tuple(
            value if cast is None or value is None else cast(value) for cast, value in zip(casts, row, strict=True)
        )


def _tokens(session: Session, run: str) -> Iterator[tuple[Any, ...]]:
    """What every turn with tokens sampled."""
    wanted = select(Steps.number.label("step"), Episodes.number.label("episode"), Turns.number.label("turn"))
    wanted = wanted.add_columns(Turns.token_ids, Turns.logprobs).join(Episodes, Episodes.id == Turns.episode_id)
    wanted = wanted.join(Steps, Steps.id == Episodes.step_id)
    wanted = wanted.where(Steps.run_id == run_number(run), Turns.n_tokens > 0)
    wanted = wanted.order_by(Steps.number, Episodes.number, Turns.number).execution_options(yield_per=_AT_ONCE)
    for row in session.execute(wanted):
        yield f"{run}/{row.step}/{row.episode}", row.turn, row.token_ids, row.logprobs


def _write(path: Path, schema: Any, rows: Iterable[tuple[Any, ...]]) -> int:
    import pyarrow
    from pyarrow.parquet import ParquetWriter  # type: ignore[import-untyped]  # it has no stubs

    count, left = 0, iter(rows)
    with ParquetWriter(path, schema, compression="zstd") as file:
        while part := list(islice(left, _AT_ONCE)):
            columns = [
                pyarrow.array(column, field.type) for column, field in zip(zip(*part, strict=True), schema, strict=True)
            ]
            file.write_table(pyarrow.Table.from_arrays(columns, schema=schema))
            count += len(part)
    return count
