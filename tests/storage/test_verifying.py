"""No damage to an episode or a step is silent, none ends in a traceback, and whole databases are called whole."""

import random
import shutil
import sqlite3
import tempfile
from contextlib import closing
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from sqlalchemy import select

from sparring.scenarios.errors import RunBusy, RunNotFound, SchemaMismatch, StoreError
from sparring.storage import queries
from sparring.storage.records import AlarmRow, CheckpointRow
from sparring.storage.salvaging import SavedRun, salvage
from sparring.storage.samples import sample_step
from sparring.storage.store import Store
from sparring.storage.tables import Base, Episodes, Steps
from sparring.storage.verifying import verify, verify_at, wrong_file

KINDS = ("bit", "bit", "bit", "sector", "bit", "bit", "page", "bit", "cut")  # bits are the hardest to see
PAGE = 4096
# A status and an end are written again by every stop and resume; rescored turns change while they are worked on.
UNSEALED = {"runs": ("status", "finished_at"), "rescores": (), "rescored": ()}


def damage(file: Path, kind: str, rng: random.Random) -> None:
    """One bit turned, one sector or page zeroed, or the end cut off, anywhere."""
    data = bytearray(file.read_bytes())
    at = rng.randrange(len(data))
    if kind == "bit":
        data[at] ^= 1 << rng.randrange(8)
    elif kind in ("sector", "page"):
        size = 512 if kind == "sector" else PAGE
        data[at - at % size : at - at % size + size] = bytes(len(data[at - at % size : at - at % size + size]))
    else:
        del data[at:]
    file.write_bytes(data)


def readable(file: Path) -> dict[str, list[tuple[object, ...]] | str]:
    """Every row of every table by table, in order; what went wrong where a table cannot be read."""
    found: dict[str, list[tuple[object, ...]] | str] = {}
    for name, table in Base.metadata.tables.items():
        if name in UNSEALED and not UNSEALED[name]:
            continue
        columns = ", ".join(f'"{c.name}"' for c in table.columns if c.name not in UNSEALED.get(name, ()))
        try:
            with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as connection:
                connection.text_factory = bytes
                found[name] = connection.execute(f'SELECT {columns} FROM "{name}" ORDER BY id').fetchall()
        except (sqlite3.Error, ValueError) as error:
            found[name] = str(error)
    return found


def fill(file: Path) -> Path:
    """A database of one run, closed: nothing is left beside the file."""
    file.write_bytes(made())
    return file


@cache
def made() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "made.db"
        write(file)
        return file.read_bytes()


def write(file: Path) -> None:
    """Three steps; all but the first learnt again from an episode of the first."""
    with Store(file) as store:
        store.start_run("sample", {"name": "sample"}, "digest", 0, {"machine": "small"})
        for number in range(3):
            step = sample_step(number, episodes=3)
            lent = tuple(one.id for one in queries.stored_episodes(store, "r1", limit=1)) if number else ()
            learnt = replace(step.advantages[0], tokens=(0.5,) * step.advantages[0].n_tokens)
            alarms = (AlarmRow("entropy", 0.1, 0.2, "low"),)
            advantages = (learnt, *step.advantages[1:])
            store.save_step("r1", replace(step, borrowed=lent, advantages=advantages, alarms=alarms))
        store.finish_run("r1", "done")


def places(file: Path) -> list[str]:
    """Where damage is found; a schema that reads as a newer one is refused by name."""
    try:
        return [finding.where for finding in verify_at(str(file)).findings]
    except SchemaMismatch as error:
        return [str(error)]


def change(file: Path, sql: str) -> None:
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("PRAGMA foreign_keys=0")
        connection.execute(sql)


def silent(file: Path, points: int) -> list[str]:
    """Damaged copies that read otherwise than ``file`` and of which nothing is said."""
    rng, found, before = random.Random(points), list[str](), readable(file)
    copy = file.with_name("copy.db")
    for number in range(points):
        shutil.copy(file, copy)
        damage(copy, KINDS[number % len(KINDS)], rng)
        changed = readable(copy) != before
        if not places(copy) and changed:
            found.append(f"{KINDS[number % len(KINDS)]}, {number}")
        for beside in file.parent.glob("copy.db*"):
            beside.unlink()
    return found


def test_a_whole_database_is_called_whole(file: Path) -> None:
    found = verify_at(str(fill(file)))
    assert (found.findings, found.runs, found.steps, found.episodes, found.uncovered) == ([], 1, 3, 9, 0)


def test_damage_that_changes_what_is_read_is_never_silent(file: Path) -> None:
    """Bites: with ``of_stored_rows`` or ``wrong_links`` or ``wrong_file`` left out some are."""
    assert silent(fill(file), 20) == []


CHANGES = {
    "UPDATE turns SET said = said || 'x' WHERE id = 20": "r1/0/1",
    "UPDATE turns SET n_tokens = 1 WHERE id = 3": "r1/0",
    "UPDATE advantages SET value = value + 1 WHERE id = 1": "r1/0",
    "UPDATE advantages SET tokens = x'1500000000' WHERE id = 1": "r1/0",
    "UPDATE steps SET metrics = '{' WHERE number = 2": "r1/2",
    "UPDATE episodes SET seconds = 9 WHERE id = 2": "r1/0",
    "DELETE FROM episodes WHERE id = 3": "r1/0",
    "DELETE FROM steps WHERE number = 0": "r1/1",
    "UPDATE states SET value = '{}' WHERE id = 3": "r1/2",
    "DELETE FROM states": "r1/2",
    "UPDATE segments SET n_tokens = 1 WHERE id = 1": "r1/0/0",
    "UPDATE segments SET text_hash = x'00' WHERE id = 1": "r1/0/0",
    "UPDATE tasks SET parent_id = NULL WHERE parent_key IS NOT NULL": "r1/0/0",
    "UPDATE tasks SET run_id = 7 WHERE id = 1": "r1/0/0",
    "UPDATE criterion_scores SET criterion_id = criterion_id + 1 WHERE id = 1": "r1/0/0",
    "UPDATE policy_versions SET run_id = 7 WHERE number = 0": "r1/0/0",
    "UPDATE runs SET seed = 5": "r1/0",
    "DROP INDEX ix_tasks_run_key": "file",
    "UPDATE episodes SET step_id = 77 WHERE id = 1": "file",
}


@pytest.mark.parametrize("sql", CHANGES)
def test_each_change_is_found_where_it_is(file: Path, sql: str) -> None:
    change(fill(file), sql)
    assert CHANGES[sql] in places(file)


def test_damaged_names_steps_and_episodes(file: Path) -> None:
    change(fill(file), "UPDATE turns SET said = 'x' WHERE id = 20")
    change(file, "UPDATE steps SET seconds = 0 WHERE number = 2")
    with Store(file) as store:
        assert queries.damaged(store, "r1") == ["r1/2", "r1/0/1"]


def test_one_run_is_looked_at_alone(file: Path) -> None:
    with Store(fill(file)) as store:
        store.start_run("second", {"name": "second"}, "other", 0)
        store.save_step("r2", sample_step(0, episodes=2))
    change(file, "UPDATE episodes SET error = 'x' WHERE id = 1")
    assert places(file) == ["r1/0/0"]
    assert [verify_at(str(file), run).findings for run in ("r2", "latest")] == [[], []]
    with pytest.raises(RunNotFound, match="no run r3"):
        verify_at(str(file), "r3")


def test_steps_saved_without_a_hash_are_counted_not_blamed(file: Path) -> None:
    change(fill(file), "UPDATE steps SET hash = NULL WHERE number = 1")
    found = verify_at(str(file))
    assert (found.findings, found.uncovered) == ([], 1)


def test_a_checkpoint_is_asked_for_where_it_should_lie(file: Path) -> None:
    """The newest must be there; an older one may have been dropped."""
    asked: list[str] = []

    def wrong(saved: CheckpointRow) -> str:
        asked.append(saved.path)
        return "gone"

    with Store(fill(file)) as store:
        found = verify(store, checkpoint=wrong)
    assert asked == ["step_2"] and [finding.where for finding in found.findings] == ["r1/2"]


@pytest.mark.parametrize("sql", ["UPDATE steps SET seconds = 9 WHERE number = 2", "UPDATE states SET value = '{}'",
                                 "UPDATE runs SET seed = 9", "UPDATE turns SET said = 'x' WHERE id = 80"])  # fmt: skip
def test_a_run_does_not_go_on_from_a_damaged_step(file: Path, sql: str) -> None:
    """Bites: without ``_refuse_damaged`` the run goes on with other figures than it had."""
    change(fill(file), sql)
    before = readable(file)
    with Store(file) as store, pytest.raises(StoreError, match=r"nothing was changed.*sparring verify r1"):
        store.resume_point("r1")
    assert readable(file) == before


def test_a_file_that_cannot_be_opened_is_a_finding_and_an_absent_one_an_error(file: Path) -> None:
    file.write_bytes(b"SQLite format 3\x00" + bytes(5000))
    assert set(places(file)) == {"file"} and wrong_file(file)
    with pytest.raises(StoreError, match="no database"):
        verify_at(str(file.with_name("absent.db")))


@pytest.mark.slow
def test_damage_is_never_silent_at_two_hundred_places(file: Path) -> None:
    assert silent(fill(file), 200) == []


def salvaged(file: Path) -> list[SavedRun]:
    new = file.with_name("new.db")
    found = salvage(file, new)
    assert verify_at(str(new)).findings == []
    return found


def episodes(file: Path) -> dict[tuple[int, int], str]:
    """The hash of every episode, by step and number."""
    with Store(file, create=False) as store, store.read() as session:
        wanted = select(Steps.number, Episodes.number, Episodes.hash).join(Episodes, Episodes.step_id == Steps.id)
        return {(step, number): value for step, number, value in session.execute(wanted)}


def test_a_whole_database_is_salvaged_as_it_is(file: Path) -> None:
    (run,) = salvaged(fill(file))
    assert (run.steps, run.episodes, run.cut, run.rest, run.lost, run.resumable) == (3, 9, None, None, [], 2)
    before, after = readable(file), readable(file.with_name("new.db"))
    assert before == after


def test_a_run_keeps_what_is_before_the_damage_and_another_holds_the_rest(file: Path) -> None:
    """Bites: with the cut left out the run goes on over a step whose episode is lost."""
    change(fill(file), "UPDATE turns SET said = 'x' WHERE id = 40")  # of r1/1/0
    (run,) = salvaged(file)
    assert (run.steps, run.cut, run.rest, run.rest_episodes, run.resumable) == (1, 1, "r2", 5, 0)
    assert [finding.where for finding in run.lost] == ["r1/1/0"]
    with Store(file.with_name("new.db"), create=False) as store:
        assert [step.step for step in queries.steps(store, "r2")] == [1, 2]
        assert store.resume_point("r1").last_step == 0
    assert episodes(file.with_name("new.db")).keys() == episodes(file).keys() - {(1, 0)}


def test_a_step_whose_figures_are_damaged_keeps_its_episodes(file: Path) -> None:
    change(fill(file), "UPDATE steps SET metrics = '{}' WHERE number = 2")
    (run,) = salvaged(file)
    assert (run.steps, run.cut, run.rest_episodes) == (2, 2, 3)
    with Store(file.with_name("new.db"), create=False) as store:
        assert queries.steps(store, "r2")[0].metrics == {} and queries.steps(store, "r2")[0].groups == 0


def test_a_lent_episode_that_is_lost_cuts_the_run_that_borrowed_it(file: Path) -> None:
    with Store(fill(file)) as store:
        store.start_run("second", {"name": "second"}, "other", 0)
        lent = queries.stored_episodes(store, "r1", range(1, 2))[0]
        store.save_step("r2", sample_step(0, episodes=2))
        store.save_step("r2", replace(sample_step(1, episodes=2), borrowed=(lent.id,)))
    change(file, "UPDATE turns SET said = 'x' WHERE id = 40")
    first, second = salvaged(file)
    assert (first.cut, second.cut, second.steps, second.rest) == (1, 1, 1, "r4")


@pytest.mark.parametrize("points", [9, pytest.param(200, marks=pytest.mark.slow)])
def test_what_is_salvaged_of_damaged_files_is_every_episode_with_a_good_hash(file: Path, points: int) -> None:
    """Bites: leave the episodes of damaged steps out."""
    before, rng = episodes(fill(file)), random.Random(5)
    for number in range(points):
        copy = file.with_name("copy.db")
        shutil.copy(file, copy)
        damage(copy, KINDS[number % len(KINDS)], rng)
        try:
            found = verify_at(str(copy)).findings
            salvaged(copy)
        except StoreError as error:
            assert "nothing can be read" in str(error) or "schema" in str(error)
            continue
        kept = episodes(file.with_name("new.db"))
        bad = {finding.where for finding in found if finding.part == "episode"}
        assert set(kept.values()) <= set(before.values())
        if not any("cannot be" in finding.what for finding in found):
            assert {place for place in before if f"r1/{place[0]}/{place[1]}" not in bad} == kept.keys()
        for beside in (*file.parent.glob("copy.db*"), *file.parent.glob("new.db*")):
            beside.unlink()


def test_episodes_of_a_step_that_cannot_be_read_are_kept(file: Path) -> None:
    """Bites: leave out ``_orphans``, and nine whole episodes are gone with one page."""
    change(fill(file), "DELETE FROM steps")
    (run,) = salvaged(file)
    assert (run.steps, run.rest, run.rest_episodes) == (0, "r2", 9)
    assert episodes(file.with_name("new.db")).keys() == {(step, number) for step in range(3) for number in range(3)}


def test_episodes_are_kept_where_the_list_of_a_steps_episodes_is_gone(file: Path) -> None:
    """Bites: leave ``_one_by_one`` out, and the page of an index takes nine whole episodes along."""
    with closing(sqlite3.connect(fill(file))) as connection:
        asked = "SELECT rootpage FROM sqlite_master WHERE name = 'sqlite_autoindex_episodes_1'"
        (page,) = connection.execute(asked).fetchone()
    data = bytearray(file.read_bytes())
    data[(page - 1) * PAGE : page * PAGE] = bytes(PAGE)
    file.write_bytes(data)
    (run,) = salvaged(file)
    assert run.rest_episodes == 9
    assert episodes(file.with_name("new.db")).keys() == {(step, number) for step in range(3) for number in range(3)}


def test_a_file_whose_end_or_schema_is_gone_is_read_as_far_as_it_goes(file: Path) -> None:
    """Bites: open it without ``writable_schema``, and SQLite refuses all of it."""
    fill(file)
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("PRAGMA writable_schema=ON")
        connection.execute("UPDATE sqlite_master SET sql = 'CREATE VIEW $' WHERE name = 'v_steps'")
    data = file.read_bytes()
    file.write_bytes(data[: len(data) // 4096 * 4096 - 3 * 4096])
    assert set(places(file)) == {"file"}
    (run,) = salvaged(file)
    assert run.episodes + run.rest_episodes >= 6


def test_looking_leaves_nothing_beside_the_file(file: Path) -> None:
    fill(file)
    assert places(file) == [] and [path.name for path in file.parent.iterdir()] == [file.name]


def test_salvage_writes_over_nothing_and_disturbs_no_run(file: Path) -> None:
    with Store(file) as store:
        store.start_run("sample", {"name": "sample"}, "digest", 0)
        with pytest.raises(RunBusy, match="being written"):
            salvage(file, file.with_name("new.db"))
    file.with_name("new.db").write_text("mine")
    with pytest.raises(StoreError, match="exists already"):
        salvage(file, file.with_name("new.db"))
