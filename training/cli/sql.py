"""``sql``: any question to the database, read only."""

from __future__ import annotations

from contextlib import closing
from typing import Annotated, Any

import typer

from .options import AsJson, Db, reading
from .output import console, plain, print_json, table, visible


def sql(
    query: Annotated[str, typer.Argument(help="One statement that reads, such as SELECT * FROM v_steps.")],
    limit: Annotated[int, typer.Option(help="The most rows to print.", min=1)] = 100,
    as_json: AsJson = False,
    db: Db = None,
) -> None:
    """Ask the database anything; the views v_episodes, v_turns, v_steps, v_rewards, v_curriculum and v_lineage help."""
    from sparring.storage.queries import select_rows

    with closing(reading(db)) as store:
        answer = select_rows(store, query, limit)
    if as_json:
        print_json([dict(zip(answer.columns, row, strict=True)) for row in answer.rows])
        return
    shown = table(*answer.columns)
    for row in answer.rows:
        shown.add_row(*map(_cell, row))
    console().print(shown, markup=False)
    if len(answer.rows) == limit:
        typer.echo(f"the first {limit} rows; --limit shows more", err=True)


def add_to(app: typer.Typer) -> None:
    """Put this command on ``app``."""
    app.command("sql")(sql)


def _cell(value: Any) -> Any:
    from rich.text import Text

    if value is None:
        return Text("-", style="dim")
    if isinstance(value, bytes):
        return Text(f"{len(value)} bytes", style="dim")
    return Text(visible(f"{value:.6g}" if isinstance(value, float) else str(plain(value))))
