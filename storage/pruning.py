"""Which runs a rule lets go, and letting them go with everything they made. Rows only: checkpoints are folders."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass

from sqlalchemy import delete, func, select
from sqlalchemy.orm import aliased

from sparring.scenarios.errors import StoreError

from .queries import runs
from .records import RunRow
from .rows import table
from .store import Store, run_number
from .tables import Borrowed, Episodes, Runs, Steps


@dataclass(frozen=True, slots=True)
class Verdict:
    """What happens to a run: it goes where ``kept`` is empty, else ``kept`` says why it stays."""

    run: RunRow
    kept: str
    steps: int


def judge(store: Store, keep: int, before: str = "") -> list[Verdict]:
    """Every run, oldest first, under the rule that the newest ``keep`` stay, and those that did something since the
    moment ``before`` (ISO 8601), where one is given.

    A run that is being written stays too, and so does one whose episodes a staying run learnt from.
    """
    return [
        Verdict(row, kept, 0 if row.last_step is None else _steps(store, row.id))
        for row, kept in kept_runs(store, keep, before)
    ]


def kept_runs(store: Store, keep: int, before: str = "", lent: bool = False) -> list[tuple[RunRow, str]]:
    """Every run, oldest first, with the reason for which it stays; an empty one where it does not.

    With ``lent`` a run another one learnt from stays even where that one does not.
    """
    found = runs(store)
    kept: dict[str, str] = {row.id: "among the newest" for row in found[len(found) - keep :]} if keep else {}
    if before:
        kept |= {row.id: "not that old" for row in found if (row.finished_at or _last(store, row)) >= before}
    kept |= {row.id: "being written" for row in found if row.status == "running"}
    lenders = _lenders(store)
    new = [row.id for row in found] if lent else list(kept)
    while new:
        borrower = new.pop()
        for lender in sorted(lenders.get(borrower, set()) - kept.keys()):
            kept[lender] = f"{borrower} learnt from it"
            new.append(lender)
    return [(row, kept.get(row.id, "")) for row in found]


def _last(store: Store, row: RunRow) -> str:
    """When a run that never ended saved its newest step, or began."""
    wanted = select(func.max(Steps.saved_at)).where(Steps.run_id == run_number(row.id))
    with store.read() as session:
        return session.scalar(wanted) or row.started_at


def _steps(store: Store, run: str) -> int:
    with store.read() as session:
        return session.scalar(select(func.count(Steps.id)).where(Steps.run_id == run_number(run))) or 0


def _lenders(store: Store) -> dict[str, set[str]]:
    """By run: the other runs whose episodes it learnt from."""
    lender = aliased(Steps)
    wanted = select(Steps.run_id, lender.run_id).select_from(Borrowed).join(Steps, Steps.id == Borrowed.step_id)
    wanted = wanted.join(Episodes, Episodes.id == Borrowed.episode_id).join(lender, lender.id == Episodes.step_id)
    found: dict[str, set[str]] = {}
    with store.read() as session:
        for borrower, lent in session.execute(wanted.where(Steps.run_id != lender.run_id).distinct()):
            found.setdefault(f"r{borrower}", set()).add(f"r{lent}")
    return found


def let_go(store: Store, gone: list[str]) -> int:
    """Delete these runs and everything they made in one transaction, then give the room back to the disk.

    Returns how many bytes the database shrank: none while a run is being written, which would have to wait, and none
    on a server. Raises ``RunBusy`` where one of them is being written and ``StoreError`` where another run learnt from
    it, with nothing deleted.
    """
    if store.is_memory:
        raise StoreError("a database in memory is not pruned; give --db")
    before, found = store.size(), table(Runs)
    with ExitStack() as held:
        for run in gone:
            held.enter_context(store.holding(run))
        with store.write() as connection:
            connection.execute(delete(found).where(found.c.id.in_([run_number(run) for run in gone])))
        if not any(row.status == "running" for row in runs(store)):
            store.shrink()
    return max(0, before - store.size())
