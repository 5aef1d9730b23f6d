"""Bad input through the command line: a message that names what, where and why, a true exit code, nothing lost."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sparring.storage.store import Store
from sparring.training.checkpoint import verify

SPARRING = [sys.executable, "-c", "from sparring.training.cli import main; main()"]
SCENARIO = """
name: tiny
policy: {model: ./model}
environment: echo
roles:
  solver: {kind: plain, prompt: say.md, reward: [verifier, format], sampling: {max_tokens: 8}}
graph: GRAPH
curriculum: {kind: sec, arms: {length: [1, 2]}}
rollout: {episodes: 2, picks: 2}
training: {steps: 2}
evaluation: {every: 0}
"""
ROWS = """
name: rows
policy: {model: ./model}
environment: code
tasks: {kind: jsonl, path: rows.jsonl}
roles: {solver: {prompt: brief/solver, reward: [verifier]}}
graph: solve
training: {steps: 1}
"""
MUCH = 400_000  # bytes: more than a checkpoint and the first steps need, less than all steps need
Words = Callable[..., subprocess.CompletedProcess[str]]


def environ() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "SPARRING_DB"} | {"OMP_NUM_THREADS": "1"}


@pytest.fixture
def place(tmp_path: Path, tiny_model: Path) -> Path:
    """A folder with a scenario that learns in a second."""
    os.symlink(tiny_model, tmp_path / "model")
    (tmp_path / "say.md").write_text("Say {{ text }}.\n")
    (tmp_path / "tiny.yaml").write_text(SCENARIO.replace("GRAPH", "solve"))
    return tmp_path


@pytest.fixture
def sparring(place: Path) -> Words:
    """``sparring(*words)`` in that folder, as a person would type it."""

    def typed(*words: str, before: str = "") -> subprocess.CompletedProcess[str]:
        command = [*SPARRING[:2], before + SPARRING[2], *words]
        return subprocess.run(command, cwd=place, env=environ(), capture_output=True, text=True, timeout=100)

    return typed


@pytest.fixture
def begin(place: Path) -> Callable[..., subprocess.Popen[str]]:
    """``begin(*words)``: the same, not waited for."""

    def start(*words: str) -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        return subprocess.Popen(
            [*SPARRING, *words], cwd=place, env=environ(), stdout=pipe, stderr=subprocess.STDOUT, text=True
        )

    return start


def refused(done: subprocess.CompletedProcess[str], code: int, *parts: str) -> None:
    """The command failed with ``code`` and a message that holds every part, and nothing else but a message."""
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    for part in parts:
        assert part in done.stderr


def untouched(place: Path) -> bool:
    return not list(place.glob("*.db*")) and not (place / "checkpoints").exists()


def counts(place: Path) -> dict[str, tuple[str, int, int]]:
    """By run: its status, its steps and its episodes, read as any program would read them."""
    sql = (
        "SELECT 'r' || r.id, r.status, (SELECT count(*) FROM steps s WHERE s.run_id = r.id), "
        "(SELECT count(*) FROM episodes e JOIN steps s ON s.id = e.step_id WHERE s.run_id = r.id) FROM runs r"
    )
    with sqlite3.connect(place / "sparring.db") as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return {run: (status, steps, episodes) for run, status, steps, episodes in database.execute(sql)}


def checkpoints(place: Path, run: str) -> int:
    """How many whole checkpoints of a run the database names; all that are still on disk must verify."""
    sql = "SELECT c.path, c.sha FROM checkpoints c JOIN steps s ON s.id = c.step_id WHERE 'r' || s.run_id = ?"
    with sqlite3.connect(place / "sparring.db") as database:
        named = [(place / path, sha) for path, sha in database.execute(sql, (run,))]
    kept = [(path, sha) for path, sha in named if path.exists()]
    for path, sha in kept:
        verify(path, sha)
    return len(kept)


# -- the scenario ------------------------------------------------------------------------------------------------------


def test_a_misspelt_key_is_named_with_its_line_and_the_right_word(sparring: Words, place: Path) -> None:
    file = place / "tiny.yaml"
    file.write_text(file.read_text().replace("training:", "trainning:"))
    refused(sparring("run", "tiny.yaml"), 2, "tiny.yaml:10", "unknown key 'trainning'", "did you mean 'training'?")
    assert untouched(place)


def test_a_wrong_type_is_named_with_what_is_needed(sparring: Words, place: Path) -> None:
    file = place / "tiny.yaml"
    file.write_text(file.read_text().replace("steps: 2", "steps: many"))
    refused(sparring("run", "tiny.yaml"), 2, "tiny.yaml:10", "training.steps", "'many'", "a whole number is needed")
    assert untouched(place)


def test_an_unknown_role_and_an_unknown_node_of_an_edge_are_named(sparring: Words, place: Path) -> None:
    graph = "{nodes: {a: {role: solvr}, b: {do: step}}, edges: [a -> c]}"
    (place / "tiny.yaml").write_text(SCENARIO.replace("GRAPH", graph))
    done = sparring("run", "tiny.yaml")
    refused(done, 2, "graph.nodes.a.role: unknown role 'solvr'; did you mean 'solver'?", "unknown node 'c'", "known:")
    assert "tiny.yaml:7" in done.stderr and untouched(place)


def test_a_loop_without_an_exit_is_named_with_a_way_out(sparring: Words, place: Path) -> None:
    graph = '{nodes: {a: {role: solver}, b: {do: step}}, edges: ["a -> b", "b -> a"]}'
    (place / "tiny.yaml").write_text(SCENARIO.replace("GRAPH", graph))
    refused(
        sparring("run", "tiny.yaml"), 2, "tiny.yaml:7", "loop through a, b has no exit", "give one edge a condition"
    )
    assert untouched(place)


def test_a_row_without_a_needed_field_is_named_by_its_line(sparring: Words, place: Path) -> None:
    (place / "rows.yaml").write_text(ROWS)
    (place / "rows.jsonl").write_text('{"program": "print(1)"}\n{"programme": "print(2)"}\n')
    refused(sparring("run", "rows.yaml"), 2, "rows.jsonl:2", "the field 'program' is missing", "found: programme")
    assert untouched(place)


@pytest.mark.slow
def test_a_folder_without_a_whole_model_is_named_and_no_run_is_made(sparring: Words, place: Path) -> None:
    (place / "nothing").mkdir()
    done = sparring("run", "tiny.yaml", "-s", "policy.model=./nothing")
    refused(done, 4, "policy.model", "nothing is not a model folder", "config.json")
    shutil.copytree(place / "model", place / "cut")
    os.truncate(place / "cut" / "model.safetensors", 20_000)
    done = sparring("run", "tiny.yaml", "-s", "policy.model=./cut")
    refused(done, 4, "policy.model './cut' cannot be loaded", "file not fully covered")
    assert counts(place) == {} and not (place / "checkpoints").exists()


# -- the database ------------------------------------------------------------------------------------------------------


def test_a_database_of_a_newer_sparring_is_left_as_it_is(sparring: Words, place: Path) -> None:
    Store(place / "sparring.db").close()
    with sqlite3.connect(place / "sparring.db") as database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
    before = (place / "sparring.db").read_bytes()
    for words in (("run", "tiny.yaml"), ("runs",)):
        refused(sparring(*words), 5, "sparring.db has schema 9999", "a newer Sparring wrote it", "upgrade Sparring")
    assert (place / "sparring.db").read_bytes() == before


def test_a_file_that_is_no_database_is_left_as_it_is(sparring: Words, place: Path) -> None:
    (place / "notes.db").write_text("These are my notes, not a database.\n")
    for words in (("run", "tiny.yaml"), ("runs",)):
        refused(sparring(*words, "--db", "notes.db"), 5, "notes.db is not a SQLite database", "give another path")
    assert (place / "notes.db").read_text() == "These are my notes, not a database.\n"


@pytest.mark.slow
def test_a_full_disk_costs_no_whole_step_and_the_run_goes_on_afterwards(sparring: Words, place: Path) -> None:
    assert sparring("run", "tiny.yaml").returncode == 0
    before = counts(place)["r1"]
    limit = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({MUCH}, {MUCH})); "
    done = sparring("run", "tiny.yaml", "-s", "training.steps=12", before=limit)
    refused(done, 75, "cannot write", "bytes free", "The last whole step is safe", "resume")
    left = counts(place)
    assert left["r1"] == before and checkpoints(place, "r1") == 2
    assert 1 <= left["r2"][1] < 13 and checkpoints(place, "r2") >= 1
    gone_on = sparring("resume", "r2")
    assert gone_on.returncode == 0, gone_on.stderr
    assert counts(place) == {"r1": before, "r2": ("done", 13, 24)}


@pytest.mark.slow
def test_ctrl_c_stops_at_a_whole_step_and_resume_finishes(sparring: Words, begin: Any, place: Path) -> None:
    with begin("run", "tiny.yaml", "-s", "training.steps=25") as process:
        for line in process.stdout:
            if line.startswith("step 1/"):
                process.send_signal(signal.SIGINT)
                break
        shown = process.stdout.read()
        assert process.wait(60) == 130 and "sparring resume r1" in shown and "Traceback" not in shown
    status, steps, episodes = counts(place)["r1"]
    assert status == "stopped" and 2 <= steps < 26 and episodes == 2 * (steps - 1) and checkpoints(place, "r1")
    gone_on = sparring("resume", "r1")
    assert gone_on.returncode == 0 and f"goes on from step {steps - 1}" in gone_on.stdout
    assert counts(place) == {"r1": ("done", 26, 50)}


@pytest.mark.slow
def test_two_runs_write_one_database_at_once(begin: Any, place: Path) -> None:
    both = [begin("run", "tiny.yaml", "-s", "training.steps=6", "-s", f"seed={seed}") for seed in (1, 2)]
    for process in both:
        shown, _ = process.communicate(timeout=200)
        assert process.returncode == 0, shown
    assert counts(place) == {"r1": ("done", 7, 12), "r2": ("done", 7, 12)}
    assert checkpoints(place, "r1") == checkpoints(place, "r2") == 2


@pytest.mark.slow
def test_a_run_that_another_process_writes_cannot_be_resumed(sparring: Words, begin: Any, place: Path) -> None:
    with begin("run", "tiny.yaml", "-s", "training.steps=5000") as process:
        try:
            assert any(line.startswith("step 0/") for line in process.stdout)
            refused(sparring("resume", "r1"), 5, f"run r1 is being written by process {process.pid}", "stop it first")
            assert process.poll() is None
        finally:
            process.send_signal(signal.SIGINT)
            process.stdout.read()
        assert process.wait(60) == 130
    assert counts(place)["r1"][0] == "stopped"


@pytest.mark.slow
def test_what_is_not_in_the_database_is_named_with_where_to_look(sparring: Words, place: Path) -> None:
    assert sparring("run", "tiny.yaml", "-s", "training.steps=1").returncode == 0
    for word, what in (("r9", "no run r9"), ("r1/77", "run r1 has no step 77")):
        for command in ("show", "why"):
            refused(sparring(command, word), 5, what, "'sparring ")
    refused(sparring("show", "r1/1/88"), 5, "no episode r1/1/88", "sparring show r1")
    refused(sparring("why", "r1/1/88"), 5, "r1/1/88", "sparring why r1/1")
    refused(sparring("show", "nonsense"), 5, "'nonsense' names nothing", "write r1 (a run)")
    assert json.loads(sparring("runs", "--json").stdout)[0]["last_step"] == 1


# -- numbers -----------------------------------------------------------------------------------------------------------


PARTS = '''
from sparring.envs.types import Score
from sparring.scenarios.registry import rewards

@rewards("nan")
def nan(episode, turn, context):
    """No number."""
    return Score.valued("nan", float("nan"), "test")

@rewards("first")
def first(episode, turn, context):
    """The first token."""
    return Score.valued("first", turn.token_ids[0] / 100, "test")
'''
FOURS = "graph={nodes: {solve: {role: solver, samples: 4}, verify: {do: step}}, edges: [solve -> verify]}"
WILD = ("training.optimizer={kind: sgd, lr: 1.0e+37}", "training.max_grad_norm=1.0e+30", "training.steps=4")


def changed(*values: str) -> list[str]:
    """Command-line words that set these keys."""
    return [word for value in values for word in ("-s", value)]


@pytest.fixture
def rewarded(place: Path) -> list[str]:
    """Words of a run whose groups of four are told apart by a reward of the scenario's own."""
    (place / "parts.py").write_text(PARTS)
    return ["run", "tiny.yaml", *changed("load=[parts.py]", FOURS, "roles.solver.reward=[first]")]


def hashes(place: Path) -> list[str]:
    with sqlite3.connect(place / "sparring.db") as database:
        return [sha for (sha,) in database.execute("SELECT weights_sha FROM policy_versions ORDER BY id")]


@pytest.mark.slow
def test_a_reward_that_is_no_number_is_masked_told_and_stored(
    sparring: Words, place: Path, rewarded: list[str]
) -> None:
    done = sparring(*rewarded, *changed("roles.solver.reward=[nan, first]"))
    assert done.returncode == 0, done.stderr
    assert "nan invalid on 8 turns  nothing to learn from, weights as they were" in done.stdout
    with sqlite3.connect(place / "sparring.db") as database:
        told = set(database.execute("SELECT validity, value, note FROM scores WHERE name = 'nan'"))
        assert database.execute("SELECT count(*) FROM advantages").fetchone() == (0,)
    assert told == {("invalid", None, "gave nan, no number to learn from")}
    assert counts(place)["r1"] == ("done", 3, 4) and len(set(hashes(place))) == 1


@pytest.mark.slow
def test_a_gradient_that_is_no_number_stops_the_run_after_its_last_whole_step(
    sparring: Words, place: Path, rewarded: list[str]
) -> None:
    done = sparring(*rewarded, *changed(*WILD))
    refused(done, 6, "step 2:", "is nan; it was not applied", "optimizer.lr", "sparring why", "on_bad_step: skip")
    assert counts(place)["r1"] == ("failed", 2, 2) and checkpoints(place, "r1") == 2


@pytest.mark.slow
def test_a_gradient_that_is_no_number_is_left_out_where_the_scenario_says_so(
    sparring: Words, place: Path, rewarded: list[str]
) -> None:
    done = sparring(*rewarded, *changed(*WILD, "training.on_bad_step=skip"))
    assert done.returncode == 0 and "step 1/4  first" in done.stdout, done.stderr
    assert done.stdout.count("update refused, loss or gradient not finite") == 3
    assert counts(place)["r1"] == ("done", 5, 8)


@pytest.mark.parametrize("key", ["top_p: 0.9", "top_k: 5", "min_p: 0.1"])
def test_truncated_sampling_is_refused_where_it_would_be_trained_on(sparring: Words, place: Path, key: str) -> None:
    for command in ("check", "run"):
        done = sparring(command, "tiny.yaml", *changed(f"roles.solver.sampling={{{key}}}"))
        refused(done, 2, f"roles.solver.sampling.{key[:5]}: is refused for a trainable role", "trainable: false")
    assert untouched(place)


# -- what trainers need ------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_layer_that_an_adapter_should_change_is_named_when_absent(sparring: Words, place: Path) -> None:
    pytest.importorskip("peft", reason="adapters need the extra `lora`")
    done = sparring("run", "tiny.yaml", *changed("policy.lora={modules: [q_porj]}"))
    refused(done, 4, "policy.lora.modules", "no linear layer 'q_porj'", "the nearest are q_proj")
    refused(sparring("check", "tiny.yaml", *changed("policy.lora={modules: []}")), 2, "modules: is empty; name linear")
    assert counts(place) == {} and not (place / "checkpoints").exists()


@pytest.mark.slow
def test_a_file_of_texts_that_is_absent_is_named_and_no_run_is_made(sparring: Words, place: Path) -> None:
    done = sparring("run", "tiny.yaml", *changed("training.trainers={rl: {}, keep: {kind: replay, path: texts.txt}}"))
    refused(done, 2, "trainer replay: texts.txt", "No such file", "path starts from the scenario's folder")
    assert counts(place) == {} and not (place / "checkpoints").exists()


def test_roles_and_nodes_that_stages_and_trainers_name_must_be_there(sparring: Words, place: Path) -> None:
    named = changed(
        "training.trainers={rl: {nodes: [slove]}, sft: {kind: sft, roles: [solvr]}}",
        "group.stages=[{kind: varied, role: solvre}]",
    )
    for command in ("check", "run"):
        done = sparring(command, "tiny.yaml", *named)
        refused(done, 2, "trainers.rl.nodes[0]: unknown node 'slove'; did you mean 'solve'?")
        refused(done, 2, "trainers.sft.roles[0]: unknown role 'solvr'", "group.stages[0].role: unknown role 'solvre'")
    assert untouched(place)


@pytest.mark.slow
def test_a_reference_of_another_vocabulary_is_named_and_no_run_is_made(sparring: Words, place: Path) -> None:
    other = place / "other"
    shutil.copytree(place / "model", other)
    text = json.loads((other / "tokenizer.json").read_text())
    first, second = sorted(text["model"]["vocab"])[:2]
    words = text["model"]["vocab"]
    words[first], words[second] = words[second], words[first]
    (other / "tokenizer.json").write_text(json.dumps(text))
    kl = changed("training.reference.model=./other", "training.loss={kind: grpo, kl: {coefficient: 0.1}}")
    done = sparring("run", "tiny.yaml", *kl)
    refused(done, 4, "training.reference.model './other' has another vocabulary", "name a model with")
    assert counts(place) == {} and not (place / "checkpoints").exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "state.json"])
def test_a_checkpoint_cut_short_is_named_and_the_one_before_it_goes_on(
    sparring: Words, place: Path, rewarded: list[str], name: str
) -> None:
    assert sparring(*rewarded).returncode == 0
    whole = hashes(place)
    cut = place / "checkpoints" / "r1" / "step-000002" / name
    cut.write_bytes(cut.read_bytes()[:-7])
    with sqlite3.connect(place / "sparring.db") as database:
        database.execute("UPDATE runs SET status = 'stopped'")
    done = sparring("resume", "r1")
    assert done.returncode == 0 and "r1 goes on from step 1" in done.stdout, done.stderr
    assert f"step-000002: {name} is damaged" in done.stderr
    assert hashes(place) == whole and counts(place)["r1"] == ("done", 3, 4)


@pytest.mark.slow
def test_a_step_that_holds_no_token_to_train_says_so(sparring: Words, place: Path, rewarded: list[str]) -> None:
    done = sparring(*rewarded, *changed("roles.solver.reward=[format]"))  # earned by every answer alike
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("nothing to learn from, weights as they were") == 2
    assert counts(place)["r1"] == ("done", 3, 4) and len(set(hashes(place))) == 1
