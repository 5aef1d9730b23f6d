"""``show`` of what runs are about: its tasks and its rubrics, as lists and one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sparring.scenarios.errors import RunNotFound

from .output import console, number, one_line, print_json, table, visible

if TYPE_CHECKING:
    from sparring.storage.rubrics import RubricStory
    from sparring.storage.store import Store
    from sparring.storage.tasks import TaskRow

    from .options import Place

LISTED = 50


def show_tasks(store: Store, run: str, as_json: bool) -> None:
    """The tasks of a run that were set last."""
    from sparring.storage.tasks import tasks

    page = tasks(store, run, limit=LISTED)
    if as_json:
        print_json(page)
        return
    _task_table(f"task of {run}", page.tasks)
    if page.after is not None:
        console().print(f"the newest {len(page.tasks)}; the view v_lineage and `sparring sql` reach all", style="dim")


def show_task(store: Store, run: str, key: str, as_json: bool) -> None:
    """One task: what it is, what it was made from, how its attempts went. ``key`` may be the beginning of one."""
    from sparring.storage.tasks import task

    found = task(store, run, key)
    if as_json:
        print_json(found)
        return
    screen, row = console(), found.row
    screen.print(f"task {row.key} of {run}", style="bold", markup=False)
    made = f"{row.origin}, {row.operator}" if row.operator else row.origin
    went = f"episodes {row.seen}, attempts {row.tries}, right {number(row.solved)}"
    screen.print(f"  {row.environment}; from {made}; {went}", markup=False)
    for name, value in (*found.payload.items(), *((f"{key} (secret)", value) for key, value in found.secret.items())):
        lines = visible(str(value)).strip().split("\n")
        screen.print(f"  {name}: " + f"\n{' ' * (len(name) + 4)}".join(lines), markup=False)
    if found.times:
        shown = table("episode", "ending", "reward", "attempts", "right", right=("reward", "attempts", "right"))
        for time in found.times:
            shown.add_row(time.episode, time.ending, number(time.reward), str(time.tries), number(time.solved))
        screen.print(shown)
    for title, rows in (("made from", found.ancestors), ("made of it", found.children)):
        if rows:
            _task_table(title, rows)


def _task_table(title: str, rows: tuple[TaskRow, ...]) -> None:
    shown = table("key", title, "from", "episodes", "attempts", "right", right=("episodes", "attempts", "right"))
    for row in rows:
        origin = f"{row.origin}, {row.operator}" if row.operator else row.origin
        counts = (str(row.seen), str(row.tries), number(row.solved))
        shown.add_row(row.key[:12], one_line(row.summary, 60), one_line(origin, 24), *counts)
    console().print(shown)


def show_rubrics(store: Store, at: Place, as_json: bool) -> None:
    """The rubrics of a run that were written last, or those of one episode with their record."""
    if at.episode is not None:
        _show_episode_rubrics(store, f"{at.run}/{at.step}/{at.episode}", at.run, as_json)
        return
    from sparring.storage.rubrics import rubrics

    page = rubrics(store, at.run, limit=LISTED)
    if as_json:
        print_json(page)
        return
    right = ("turn", "version", "criteria", "points", "judged", "met")
    shown = table("episode", "turn", "by", "version", "criteria", "points", "judged", "met", "task", right=right)
    for row in page.rubrics:
        counts = (str(row.version), str(row.criteria), number(row.points), str(row.judged), number(row.met))
        shown.add_row(row.episode, str(row.turn), row.written_by, *counts, one_line(row.task or "", 50))
    console().print(shown)


def _show_episode_rubrics(store: Store, episode: str, run: str, as_json: bool) -> None:
    from sparring.storage import queries
    from sparring.storage.rubrics import rubric

    turns = sorted(queries.episode(store, run, episode).rubrics)
    if not turns:
        raise RunNotFound(f"episode {episode} has no rubric; `sparring show {run} --rubrics` lists those of the run")
    found = [rubric(store, episode, turn) for turn in turns]
    if as_json:
        print_json(found)
        return
    for story in found:
        _show_rubric(story)


def _show_rubric(story: RubricStory) -> None:
    screen, row = console(), story.row
    screen.print(f"rubric of turn #{row.turn} in {row.episode}", style="bold", markup=False)
    screen.print(f"  by {row.written_by}, version {row.version}, {visible(row.provenance)}", markup=False)
    right = ("points", "judged", "met", "met when right", "met when wrong")
    shown = table("criterion", "kind", "checker", *right, right=right)
    for item in story.criteria:
        shares = (number(item.met), number(item.met_right), number(item.met_wrong))
        shown.add_row(one_line(item.text, 80), item.kind, item.checker, number(item.points), str(item.judged), *shares)
    screen.print(shown)
    if story.agreement is not None:
        said = f"gives the right answer more in {story.agreement:.0%} of {story.pairs} pairs of a right and a wrong one"
        screen.print(f"  {said}", markup=False)
