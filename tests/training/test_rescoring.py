"""Stored answers scored once more: by the verifier as it is now, by several processes, through kills and failures."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.training.parrots import WORLD, parrot_scenario, played, world_file

from sparring.agents.engine import Request
from sparring.scenarios.errors import ScenarioError
from sparring.scenarios.load import from_resolved, load
from sparring.storage.queries import run_hash, select_rows
from sparring.storage.rescore_figures import Compared, compared
from sparring.storage.rescores import Asked, Rescore, begin, rescore
from sparring.storage.store import Store
from sparring.training import rescoring, reverifying

forking = multiprocessing.get_context("fork")


@pytest.fixture
def parrot(tmp_path: Path) -> Path:
    """The scenario's file."""
    return parrot_scenario(tmp_path)


@pytest.fixture
def store(parrot: Path, tmp_path: Path) -> Iterator[Store]:
    """A played run r1."""
    with Store(tmp_path / "sparring.db") as opened:
        yield played(load(parrot), opened)


def verified(store: Store, *overrides: str, workers: int = 2, **asked: Any) -> Compared:
    """A whole scoring of r1 by its verifier."""
    resolved = select_rows(store, "SELECT resolved FROM scenarios").rows[0][0]
    scenario = from_resolved(rescoring_json(resolved), overrides=overrides)
    options = {**rescoring.verifier_options(scenario), "against": "verifier"}
    one = begin(store, "r1", "verifier", scenario.environment.kind, options, Asked(**asked))
    with closing(rescoring.scorer_of(one.kind, one.options, scenario, {}, workers, False)) as scorer:
        done = rescoring.work(store, one, scorer)
    assert (done.scored, done.lost) == (one.turns, 0)
    return compared(store, rescore(store, "r1", one.number))


def rescoring_json(text: str) -> Any:
    """What the database holds of a scenario."""
    from sparring.storage.codec import unescape, unpack_json

    return unpack_json(unescape(text))


def test_an_unchanged_verifier_gives_every_score_again(store: Store) -> None:
    found = verified(store)
    assert found.total.turns > 50 and found.total.equal == 1.0 and found.rescore.invalid == 0
    notes = {row[0] for row in select_rows(store, "SELECT DISTINCT note FROM v_rescores").rows}
    assert notes == {""}  # the environment said the same words on the way


@pytest.mark.parametrize("name", ["kuhn", "dialogue-ask", "tictactoe"])
def test_games_and_conversations_are_judged_again_from_their_seeds(name: str, tmp_path: Path) -> None:
    quiet = [f"roles.{role}.demonstrated=0.0" for role in load(name).roles]

    def said(prompt: str, request: Request) -> str:
        return ("bet", "check", "5", "What is it? <answer>7</answer>", "fold")[request.seed % 5]

    with Store(tmp_path / "game.db") as store:
        played(load(name, quiet), store, said)
        found, own = verified(store), verified(store, roles=(min(load(name).roles),))
        stored = select_rows(store, "SELECT count(verifier) FROM v_rescores WHERE rescore = 2").rows[0][0]
    assert found.total.compared > 10 and found.total.equal == 1.0
    assert own.total.equal == 1.0 and own.rescore.invalid == 0
    assert own.total.compared == stored > 4  # whoever made the last move


def test_programs_are_run_again(tmp_path: Path) -> None:
    def said(prompt: str, request: Request) -> str:
        return f"<answer>{request.seed % 30}</answer>"

    with Store(tmp_path / "code.db") as store:
        played(load("quickstart"), store, said, episodes=2)
        found = verified(store)
    assert found.total.turns == 32 and found.total.equal == 1.0


def test_a_mended_verifier_shows_what_flips_and_where(store: Store) -> None:
    found = verified(store, "environment.fold=true")
    asked = "SELECT count(*) FROM v_rescores WHERE verifier = 0 AND value = 1"
    flipped = select_rows(store, asked).rows[0][0]
    assert (found.total.to_right, found.total.to_wrong) == (flipped, 0) and flipped > 5
    assert found.total.agreement == pytest.approx(1 - flipped / found.total.turns)
    assert found.most_changed[0].to_right == max(one.to_right for one in found.most_changed)


def tables(path: Path) -> dict[str, list[Any]]:
    """Every row of every table but the two of scorings."""
    with closing(sqlite3.connect(path)) as connection:
        names = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {name: connection.execute(f'SELECT * FROM "{name}"').fetchall() for name in names
                if name not in ("rescores", "rescored")}  # fmt: skip


def test_nothing_of_the_stored_run_changes(store: Store) -> None:
    assert store.path is not None
    before = run_hash(store, "r1"), tables(store.path)
    verified(store, "environment.fold=true")
    assert (run_hash(store, "r1"), tables(store.path)) == before


def test_answers_given_to_other_words_than_the_environment_has_now_say_so(store: Store) -> None:
    verified(store, "environment.greets=SAY")
    notes = {row[0] for row in select_rows(store, "SELECT note FROM v_rescores").rows}
    assert notes == {reverifying.ANOTHER}


def test_episodes_without_their_tokens_are_judged_all_the_same(store: Store) -> None:
    assert store.path is not None
    with closing(sqlite3.connect(store.path)) as connection, connection:
        connection.execute("UPDATE turns SET token_ids = NULL, logprobs = NULL")
        connection.execute("UPDATE episodes SET thinned = '2026-01-01T00:00:00Z'")
    assert verified(store).total.equal == 1.0


def test_an_answer_at_which_the_environment_fails_is_invalid_and_names_it(store: Store) -> None:
    found = verified(store, "environment.breaks=no")
    wrong = select_rows(store, "SELECT count(*) FROM v_rescores JOIN v_turns USING (episode, turn) "
                        "WHERE said = 'no'").rows[0][0]  # fmt: skip
    assert found.total.invalid >= wrong > 0 and found.total.valued > 0
    assert "Parrot (world.py): step raised RuntimeError: the parrot flew away" in found.invalid[0][0]


def test_a_task_that_cannot_be_set_again_costs_its_own_answers_only(store: Store) -> None:
    (word,) = select_rows(store, "SELECT json_extract(payload, '$.text') FROM tasks WHERE id = 1").rows[0]
    found = verified(store, f"environment.breaks={word}")
    assert 0 < found.total.invalid < found.total.turns
    assert any("reset raised RuntimeError: cannot begin" in note for note, _ in found.invalid)


def test_another_version_of_the_verifiers_code_is_noticed(store: Store, parrot: Path) -> None:
    scenario = load(parrot)
    one = begin(store, "r1", "verifier", "parrot", rescoring.verifier_options(scenario), Asked())
    rescoring.same_code(one, scenario)
    try:
        world_file().write_text(WORLD + "\n# mended\n")
        with pytest.raises(ScenarioError, match="another version of the verifier's code"):
            rescoring.same_code(one, scenario)
    finally:
        world_file().write_text(WORLD)


def take_part(path: Path, scenario: Path, seconds: float) -> None:
    """One process's part in scoring 1 of r1, slowly."""

    class Slow(reverifying.Reverify):
        def score(self, asked: reverifying.Asked) -> Any:
            time.sleep(0.02)
            return super().score(asked)

    with Store(path) as store, closing(Slow(load(scenario), {}, 1)) as scorer:
        scorer.at_once = 3
        rescoring.work(store, rescore(store, "r1", 1), scorer, lease_s=seconds)
    os._exit(0)


@pytest.fixture
def waiting(store: Store, parrot: Path) -> Rescore:
    """A scoring of r1 that has begun, with a log of every result that is ever written."""
    one = begin(store, "r1", "verifier", "parrot", rescoring.verifier_options(load(parrot)), Asked())
    assert store.path is not None
    with closing(sqlite3.connect(store.path)) as connection, connection:
        connection.execute("CREATE TABLE done (id INTEGER)")
        connection.execute("CREATE TRIGGER counted AFTER UPDATE OF validity ON rescored WHEN NEW.validity IS NOT NULL "
                           "BEGIN INSERT INTO done VALUES (NEW.id); END")  # fmt: skip
    return one


@pytest.mark.slow
def test_processes_that_are_killed_and_begun_again_score_every_turn_once(
    store: Store, waiting: Rescore, parrot: Path
) -> None:
    """Bites: let ``finish`` write by id alone, and a turn is done twice."""
    path = store.path
    assert path is not None
    workers = [forking.Process(target=take_part, args=(path, parrot, 0.3)) for _ in range(5)]
    for at, worker in enumerate(workers):
        worker.start()
        if at < 3:
            time.sleep(0.15)
            os.kill(worker.pid or 0, signal.SIGKILL)
    for worker in workers:
        worker.join(60)
    assert {worker.exitcode for worker in workers[3:]} == {0}
    done = [row[0] for row in select_rows(store, "SELECT id FROM done ORDER BY id", 10_000).rows]
    assert len(done) == len(set(done)) == waiting.turns
    assert compared(store, rescore(store, "r1", 1)).total.equal == 1.0


def test_a_stop_that_is_asked_for_leaves_no_lease_behind(store: Store, waiting: Rescore, parrot: Path) -> None:
    looks = iter([False, True])
    with closing(reverifying.Reverify(load(parrot), {}, 1)) as scorer:
        done = rescoring.work(store, waiting, scorer, lambda: next(looks))
    held = select_rows(store, "SELECT count(*) FROM rescored WHERE leased_by IS NOT NULL").rows[0][0]
    assert (done.scored, held) == (scorer.at_once, 0) and rescore(store, "r1", 1).waiting == waiting.turns - done.scored


def test_what_fails_gives_its_turns_back_and_is_told(store: Store, waiting: Rescore) -> None:
    class Failing:
        at_once = 5

        def score(self, asked: reverifying.Asked) -> Any:
            raise ScenarioError("no way")

        def close(self) -> None:
            pass

    with pytest.raises(ScenarioError, match="no way"):
        rescoring.work(store, waiting, Failing())
    assert rescore(store, "r1", 1).waiting == waiting.turns
    held = select_rows(store, "SELECT count(*) FROM rescored WHERE leased_by IS NOT NULL").rows[0][0]
    assert held == 0


def test_a_lease_is_renewed_while_its_turns_are_scored(store: Store, waiting: Rescore, parrot: Path) -> None:
    class Slower(reverifying.Reverify):
        def score(self, asked: reverifying.Asked) -> Any:
            time.sleep(1.0)
            return super().score(asked)

    with closing(Slower(load(parrot), {}, 2)) as scorer:
        scorer.at_once = 1000
        done = rescoring.work(store, waiting, scorer, lease_s=0.3)
    assert (done.scored, done.lost) == (waiting.turns, 0)


def test_turns_that_are_taken_back_meanwhile_are_no_longer_scored(store: Store, parrot: Path) -> None:
    scenario = load(parrot)
    one = begin(store, "r1", "verifier", "parrot", rescoring.verifier_options(scenario), Asked())

    class Rolling(reverifying.Reverify):
        def score(self, asked: reverifying.Asked) -> Any:
            found = super().score(asked)
            store.resume_point("r1")  # it has no checkpoint, so it begins again
            return found

    with closing(Rolling(scenario, {}, 1)) as scorer:
        done = rescoring.work(store, one, scorer)
    assert done.scored == 0 and done.lost == scorer.at_once and rescore(store, "r1", 1).turns == 0
