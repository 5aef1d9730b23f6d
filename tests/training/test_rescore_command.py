"""``sparring rescore``: what it shows, rubrics from files, judges behind a server, what it says instead of working."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.training.fake_openai import Body, FakeOpenAI, Reply, completion
from tests.training.parrots import parrot_scenario, played
from typer.testing import CliRunner, Result

from sparring.scenarios.load import load
from sparring.storage.queries import run_hash, select_rows
from sparring.storage.samples import sample_step
from sparring.storage.store import Store
from sparring.training.cli import app

Told = Callable[..., Result]
RULES = "- 2 says b\n- 1 at most 1 words\n- 'veto: matches /[a-d]/'\n"
JUDGED = "criteria:\n- 1 says a\n- 3 is friendly\n"


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Told:
    """What a command line gives, in a folder with a played run r1 of parrots."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SPARRING_DB", raising=False)
    with Store(tmp_path / "sparring.db") as store:
        played(load(parrot_scenario(tmp_path)), store)
    return lambda *words: CliRunner().invoke(app, ["rescore", *words])


def found(done: Result) -> dict[str, Any]:
    assert done.exit_code == 0, done.output
    value: dict[str, Any] = json.loads(done.stdout)
    return value


def rows(sql: str) -> list[Any]:
    with Store("sparring.db") as store:
        return list(select_rows(store, sql, 10_000).rows)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeOpenAI]:
    """A judge that says yes to every other answer."""

    def says(body: Body) -> Body:
        return completion(f"2: {('yes', 'no')[body['seed'] % 2]}")

    monkeypatch.setenv("JUDGE_KEY", "k")
    with FakeOpenAI(says, models=["judge-1"], key="k") as running:
        yield running


@pytest.fixture
def judged(server: FakeOpenAI) -> Path:
    """A rubric's file whose second criterion a judge behind the server answers."""
    Path("judged.yaml").write_text(
        f"{JUDGED}judge: {{kind: openai, url: '{server.url}', model: judge-1, api_key_env: JUDGE_KEY, retries: 0, "
        "patience_s: 0}\n"
    )
    return Path("judged.yaml")


def test_a_verifier_that_has_not_changed_agrees_with_itself(told: Told) -> None:
    shown = told("r1", "--verifier")
    assert shown.exit_code == 0 and "r1 scoring 1: verifier parrot, beside the stored verifier score" in shown.stdout
    assert "100.0%" in shown.stdout and "most changed" not in shown.stdout


def test_overrides_of_the_environment_count_and_the_run_stays(told: Told) -> None:
    with Store("sparring.db") as store:
        before = run_hash(store, "r1")
    answer = found(told("r1", "--verifier", "-s", "environment.fold=true", "--json"))
    assert answer["total"]["to_right"] > 0 and answer["total"]["to_wrong"] == 0
    assert answer["rescore"]["options"]["environment"]["fold"] is True
    with Store("sparring.db") as store:
        assert run_hash(store, "r1") == before
    shown = told("r1", "--join", "1").stdout
    assert "most changed" in shown and "look at one with: sparring show r1/" in shown


def test_every_scoring_is_listed_and_none_is_said(told: Told) -> None:
    assert "were not scored once more yet; 'sparring rescore r1 --verifier' does" in told("r1").stdout
    told("r1", "--verifier", "--steps", "2")
    told("r1", "--verifier", "--steps", ":1")
    listed = told("r1", "--json")
    assert [(one["number"], one["options"]["steps"]) for one in found_list(listed)] == [(1, [2, 2]), (2, [None, 1])]
    assert {row[0] for row in rows("SELECT step FROM v_rescores WHERE rescore = 1")} == {2}


def found_list(done: Result) -> list[dict[str, Any]]:
    value: list[dict[str, Any]] = json.loads(done.stdout)
    return value


def test_the_run_page_mentions_its_scorings(told: Told) -> None:
    told("r1", "--verifier")
    shown = CliRunner().invoke(app, ["show", "r1"])
    assert "scored once more" in shown.stdout and "sparring rescore r1" in shown.stdout


def test_a_rubric_of_rules_measures_the_same_words(told: Told) -> None:
    Path("better.yaml").write_text(RULES)
    answer = found(told("r1", "--rubric", "better.yaml", "--json"))
    assert answer["against"] == "verifier" and answer["total"]["invalid"] == 0
    scored = rows("SELECT t.said, u.value FROM v_rescores u JOIN v_turns t USING (episode, turn)")
    for said, value in scored:
        met = 2 * ("b" in said.lower()) + 1
        assert value == pytest.approx(met / 3 if set(said) <= set("abcd") else 0), said
    quotes = rows("SELECT DISTINCT json_extract(criteria, '$[0].by') FROM v_rescores")
    assert quotes == [("says",)]


def test_a_judge_answers_what_no_rule_reads(told: Told, judged: Path, server: FakeOpenAI) -> None:
    answer = found(told("r1", "--rubric", str(judged), "--json"))
    assert answer["total"]["valued"] == answer["total"]["turns"] == server.chats > 0
    asked = server.asked[0]["messages"][0]["content"]
    assert "2. is friendly" in asked and "says a" not in asked and "==========" in asked
    values = {row[0] for row in rows("SELECT value FROM v_rescores")}
    assert values <= {0.0, 0.25, 0.75, 1.0} and len(values) > 2
    assert rows("SELECT DISTINCT judged_by FROM v_rescores") == [("judge by openai:judge-1",)]


def test_a_judge_may_be_named_on_the_command_line(told: Told, server: FakeOpenAI) -> None:
    server.key = ""
    Path("judged.yaml").write_text(JUDGED)
    answer = found(told("r1", "--rubric", "judged.yaml", "--judge", f"{server.url}#judge-1", "--json"))
    assert answer["total"]["valued"] > 0 and answer["rescore"]["options"]["judge"]["engine"]["model"] == "judge-1"
    engine = json.dumps({"kind": "openai", "url": server.url, "model": "judge-1"})
    words = ("--rubric", "judged.yaml", "--judge", "judge", "-s", f"roles.judge.engine={engine}", "--json")
    assert found(told("r1", *words))["total"]["valued"] == answer["total"]["valued"]


def test_a_prompt_of_ones_own_shows_the_judge_what_was_asked(told: Told, judged: Path, server: FakeOpenAI) -> None:
    Path("mine.md").write_text("The word was {{ text }}. {{ last | fence }}\n{{ rubric | join(' ') }}")
    judged.write_text(judged.read_text() + "prompt: mine.md\nsampling: {max_tokens: 7}\n")
    found(told("r1", "--rubric", str(judged), "--json"))
    assert server.asked[0]["messages"][0]["content"].startswith("The word was ")
    assert server.asked[0]["max_tokens"] == 7


@pytest.mark.slow
@pytest.mark.parametrize("fault", [Reply.error(500, "out of order"), completion("I refuse."), completion("9: yes")])
def test_a_judge_that_fails_gives_invalid_scores_that_can_be_taken_up_again(
    told: Told, judged: Path, server: FakeOpenAI, fault: Any
) -> None:
    well, server.answer = server.answer, lambda body: fault
    first = found(told("r1", "--rubric", str(judged), "--json"))
    assert first["total"]["invalid"] == first["total"]["turns"] and first["total"]["new"] is None
    shown = told("r1", "--join", "1").stdout
    assert "could not be judged:" in shown and "sparring rescore r1 --join 1 --again invalid" in shown
    server.answer = well
    again = told("r1", "--join", "1", "--again", "invalid", "--json")
    assert found(again)["total"]["valued"] == first["total"]["turns"]
    assert f"{first['total']['turns']} turns that ended invalid are scored again" in again.stderr


def test_a_judge_that_refuses_midway_stops_the_work_and_the_same_command_goes_on(
    told: Told, judged: Path, server: FakeOpenAI
) -> None:
    well, server.answer = server.answer, lambda body: Reply.error(401, "wrong key")
    stopped = told("r1", "--rubric", str(judged))
    assert stopped.exit_code == 4 and "Traceback" not in stopped.output
    waits = rows("SELECT count(*) FROM v_rescores WHERE validity IS NULL AND leased_by IS NULL")[0][0]
    server.answer = well
    again = found(told("r1", "--rubric", str(judged), "--json"))
    assert waits == again["total"]["valued"] > 0 and again["rescore"]["number"] == 1


def test_a_judge_that_is_not_there_is_told_before_anything_is_begun(
    told: Told, judged: Path, server: FakeOpenAI
) -> None:
    server.die()
    done = told("r1", "--rubric", str(judged))
    assert done.exit_code == 4 and "start the server" in done.stderr and rows("SELECT * FROM rescores") == []


@pytest.fixture
def begun(told: Told, judged: Path, server: FakeOpenAI) -> Iterator[subprocess.Popen[str]]:
    """The command as a process of its own, at work: the judge answers one turn in a while."""
    well = server.answer

    def slowly(body: Body) -> Any:
        time.sleep(0.05)
        return well(body) if callable(well) else well

    server.answer = slowly
    command = [sys.executable, "-c", "from sparring.training.cli import main; main()", "rescore", "r1"]
    words = [*command, "--rubric", str(judged)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        while server.chats < 3 and process.poll() is None:
            time.sleep(0.01)
        yield process


@pytest.mark.slow
def test_ctrl_c_ends_with_the_turns_at_hand_and_the_same_command_goes_on(
    begun: subprocess.Popen[str], told: Told, judged: Path
) -> None:
    begun.send_signal(signal.SIGINT)
    shown, said = begun.communicate(timeout=60)
    assert begun.returncode == 130 and "stopping after the turns at hand" in said and "Traceback" not in said
    left, held = rows("SELECT count(*) - count(validity), count(leased_by) FROM rescored")[0]
    assert held == 0 and left > 0 and f"{left} turns wait; go on with: sparring rescore r1 --join 1" in shown
    again = told("r1", "--rubric", str(judged), "--json")
    assert f"scoring 1 of r1 goes on: {left} of" in again.stderr and found(again)["rescore"]["waiting"] == 0


@pytest.mark.slow
def test_what_a_killed_process_held_is_scored_by_the_next(
    begun: subprocess.Popen[str], told: Told, judged: Path
) -> None:
    begun.kill()
    begun.communicate(timeout=60)
    assert rows("SELECT count(leased_by) FROM rescored")[0][0] > 0
    with Store("sparring.db") as store, store.write() as connection:  # its leases end
        connection.exec_driver_sql("UPDATE rescored SET leased_until = leased_until - 60")
    total = found(told("r1", "--rubric", str(judged), "--json"))["total"]
    assert total["valued"] == total["turns"] and rows("SELECT count(leased_by) FROM rescored") == [(0,)]


def test_a_finished_scoring_is_not_taken_for_the_next_one(told: Told) -> None:
    numbers = [found(told("r1", "--verifier", "--json"))["rescore"]["number"] for _ in range(2)]
    assert numbers == [1, 2]


BAD = {
    "- says a": "bad.yaml:1: criteria[0]: a criterion is written 'POINTS text'",
    "- 1 says a\n- {text: b, point: 2}": "bad.yaml:2: criteria[1].point: unknown key 'point'; did you mean 'points'?",
    "- 1 says a\n- {text: b, kind: soft}": "bad.yaml:2: criteria[1].kind:",
    "- 'veto: says a'": "no criterion is worth points",
    "criteria:\n- 1 says a\n- 1 is kind\n- 1 is wise": "bad.yaml:3: no rule reads 'is kind' (and 1 more)",
    "just words": "bad.yaml:1: a rubric is a list of criteria",
    "- 1 says a\n\t- x": "bad.yaml:2: a tab",
    "criteria: [1 says a]\njugde: {}": "bad.yaml:2: jugde: unknown key 'jugde'; did you mean 'judge'?",
}


@pytest.mark.parametrize("text", BAD)
def test_what_is_wrong_with_a_rubric_is_named_by_its_line(told: Told, text: str) -> None:
    Path("bad.yaml").write_text(text)
    done = told("r1", "--rubric", "bad.yaml")
    assert done.exit_code == 2 and BAD[text] in done.stderr and rows("SELECT count(*) FROM rescores") == [(0,)]


PLAIN = "{kind: plain, prompt: say.md, trainable: false, engine: scripted}"
WRONG: dict[tuple[str, ...], tuple[int, str]] = {
    ("r9", "--verifier"): (5, "no run r9"),
    ("r1", "--verifier", "--role", "slover"): (2, "unknown role 'slover'; did you mean 'solver'?"),
    ("r1", "--verifier", "--against", "reward"): (2, "unknown score 'reward'"),
    ("r1", "--verifier", "--steps", "9:"): (5, "r1 has no turn in steps 9"),
    ("r1", "--verifier", "--steps", "a"): (2, "write FIRST:LAST"),
    ("r1", "--verifier", "-s", "training.steps=9"): (2, "only environment... has a say in what the verifier finds"),
    ("r1", "--verifier", "-s", "environment.fuld=1"): (2, "did you mean 'fold'?"),
    ("r1", "--verifier", "--join", "1"): (2, "exclude each other"),
    ("r1", "--join", "1", "--role", "solver"): (2, "it has its turns and its judge already"),
    ("r1", "--verifier", "--judge", "judge"): (2, "answers the criteria of a --rubric"),
    ("r1", "--join", "4"): (5, "r1 has no scoring 4; there are: none"),
    ("r1", "--verifier", "--again", "invalid"): (5, "no scoring by these means"),
    ("r1", "--rubric", "absent.yaml"): (2, "absent.yaml: cannot be read: No such file"),
    ("r1", "--rubric", "j.yaml", "--judge", "nobody"): (2, "unknown role 'nobody'"),
    ("r1", "--rubric", "j.yaml", "--judge", "http://127.0.0.1:9/v1"): (2, "which model?"),
    ("r1", "--rubric", "j.yaml", "--judge", "judge"): (2, "speaks with the policy itself"),
    ("r1", "--rubric", "j.yaml", "--judge", "judge", "-s", f"roles.judge={PLAIN}"): (2, "is of kind 'plain'"),
    ("r1", "--rubric", "j.yaml", "--judge", "judge", "-s", "roles.judge.engine=vllm"): (4, "loads no model"),
}


@pytest.mark.parametrize("words", WRONG)
def test_what_cannot_be_done_is_said_in_a_line_and_nothing_is_begun(told: Told, words: tuple[str, ...]) -> None:
    Path("j.yaml").write_text(JUDGED)
    code, says = WRONG[words]
    done = told(*words)
    assert done.exit_code == code and says in " ".join(done.stderr.split()), done.output
    assert rows("SELECT count(*) FROM rescores") == [(0,)]


def test_a_run_that_a_client_drove_has_no_verifier_but_can_be_measured(told: Told) -> None:
    resolved = load("parrot.yaml").resolved()
    with Store("sparring.db") as store:
        store.start_run("served", resolved, "other", 0, {"recorded": True})
        store.save_step("r2", sample_step(0, episodes=2))
        store.finish_run("r2", "done")
    done = told("r2", "--verifier")
    assert done.exit_code == 5 and "was recorded by sparring serve" in done.stderr and "--rubric FILE" in done.stderr
    Path("better.yaml").write_text(RULES)
    assert found(told("r2", "--rubric", "better.yaml", "--role", "critic", "--json"))["total"]["valued"] > 0


def test_a_run_without_a_verifier_says_so_and_what_to_do(told: Told) -> None:
    with Store("sparring.db") as store, store._database.write() as connection:
        connection.exec_driver_sql("DELETE FROM scores")
    done = told("r1", "--verifier")
    assert done.exit_code == 5 and "holds no verifier score" in done.stderr and "--role ROLE" in done.stderr
    Path("better.yaml").write_text(RULES)
    done = told("r1", "--rubric", "better.yaml")
    assert done.exit_code == 2 and "name them with --role; the roles are solver" in done.stderr
    assert found(told("r1", "--rubric", "better.yaml", "--role", "solver", "--json"))["total"]["compared"] == 0
