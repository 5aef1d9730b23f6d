"""From a file to a checked scenario: every mistake is told with its line, its key and the nearest right word."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparring.scenarios.errors import ScenarioError
from sparring.scenarios.load import SHIPPED, from_resolved, load, loads
from sparring.scenarios.schema import Scenario

Small = Callable[..., Scenario]

# what is replaced in the default scenario, by what, and words its one-line error must hold
TYPOS = [
    ("seed: 0 ", "sede: 0 ", "sede: unknown key 'sede'; did you mean 'seed'?"),
    ("seed: 0 ", "seed: zero ", "seed: found 'zero'; a whole number is needed"),
    ("seed: 0 ", "seed: -1 ", "seed: found -1; at least 0 is needed"),
    ("seed: 0 ", "seed: 1.5 ", "seed: found 1.5; a whole number is needed"),
    ("seed: 0 ", "seed: true ", "seed: found True; a whole number is needed"),
    ("name: code-output", "name: 'a b'", "name: found 'a b'; letters"),
    ("policy: {model", "policy: {modl", "policy.modl: unknown key 'modl'; did you mean 'model'?"),
    ("engine: {kind: transformers", "engine: {kind: transfomers", "did you mean 'transformers'?"),
    ("{kind: toy, mode: predict_output}", "{kind: tooy, mode: predict_output}", "did you mean 'toy'?"),
    ("mode: predict_output}", "mode: predict_outptu}", "environment.mode: found 'predict_outptu'; did you mean"),
    ("mode: predict_output}", "mood: predict_output}", "option of 'toy' 'mood'; did you mean 'mode'"),
    ("prompt: brief/teacher", "promt: brief/teacher", "teacher.promt: unknown key 'promt'; did you mean 'prompt'"),
    ("prompt: brief/teacher", "prompt: brief/teecher", "roles.teacher.prompt: no prompt 'brief/teecher'"),
    ("reward: [learnability]", "reward: [learnabilty]", "unknown reward 'learnabilty'; did you mean 'learnability'?"),
    ("reward: [learnability]", "reward: []", "roles.teacher.reward: a trainable role needs a reward"),
    ("reward: [learnability]", "reward: [rubric, rubric]", "roles.teacher.reward: a reward is listed twice"),
    ("{verifier: 1.0, rubric: 0.3}", "{verifier: much, rubric: 0.3}", "solver.reward.verifier: found 'much'; a number"),
    ("sees: [reference, trace]", "sees: [reference, trase]", "sees[1]: unknown disclosure 'trase'; did you mean"),
    ("graph: propose-solve-critique-revise", "graph: propose-solve-critique-revize", "graph: unknown graph"),
    ("graph: propose-solve-critique-revise", "graph: 5", "graph: found 5"),
    ("  kind: sec ", "  kind: sce ", "curriculum.kind: unknown curriculum 'sce'; did you mean 'sec'?"),
    ("arms: {depth: [2, 3, 4]}", "arms: {dept: [2, 3, 4]}", "arms.dept: unknown parameter of the environment"),
    ("arms: {depth: [2, 3, 4]}", "arms: {depth: [2, 3, 9]}", "arms.depth[2]: found 9; allowed: 1, 2, 3, 4"),
    ("rate: 0.5", "rat: 0.5", "curriculum.rat: unknown option of 'sec' 'rat'; did you mean 'rate'?"),
    ("picks: 4}", "picks: 40}", "rollout: picks: 40 decisions cannot share episodes: 12"),
    ("steps: 30 ", "stpes: 30 ", "training.stpes: unknown key 'stpes'; did you mean 'steps'?"),
    ("steps: 30 ", "steps: '30' ", "training.steps: found '30'; a whole number is needed"),
    ("advantage: grpo", "advantage: gpro", "training.advantage: unknown advantage 'gpro'; did you mean 'grpo'?"),
    ("loss: dapo", "loss: dapoo", "training.loss: unknown loss 'dapoo'; did you mean 'dapo'?"),
    ("optimizer: {kind: adamw", "optimizer: {kind: adam", "optimizer.kind: found 'adam'; did you mean 'adamw'?"),
    ("lr: 5.0e-4", "lr: 0", "training.optimizer.lr: found 0; more than 0"),
    ('"pass@4"', '"pass4"', "evaluation.metrics[1]: unknown metric 'pass4'; did you mean"),
    ("metrics: [accuracy", "metrics: [acuracy", "unknown metric 'acuracy'; did you mean 'accuracy'?"),
    ("budget: {}", "budget: {hours: 1}", "budget.hours: unknown key 'hours'"),
    ("load: []", "load: [nowhere.py]", "load[0]: found 'nowhere.py'; a Python file is needed"),
    ("group: {stages: []}", "group: {stages: [bnad]}", "group.stages[0]: unknown group stage 'bnad'; did you mean"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("old", "new", "words"), TYPOS, ids=[f"{new.strip()}-{i}" for i, (_, new, _) in enumerate(TYPOS)]
)
def test_a_typo_is_one_line_with_its_place_and_a_hint(default_text: str, old: str, new: str, words: str) -> None:
    assert old in default_text
    line = default_text[: default_text.index(old)].count("\n") + 1
    with pytest.raises(ScenarioError) as caught:
        loads(default_text.replace(old, new, 1), "x.yaml")
    told = str(caught.value).splitlines()
    assert any(row.startswith(f"x.yaml:{line}: ") and words in row for row in told), told
    assert len(told) == 1, told


def test_all_mistakes_are_told_at_once_in_file_order(default_text: str) -> None:
    text = default_text.replace("seed: 0", "sede: 0").replace("loss: dapo", "loss: clap").replace("acc", "ac")
    with pytest.raises(ScenarioError) as caught:
        loads(text, "x.yaml")
    keys = [row.split(": ")[1] for row in str(caught.value).splitlines()]
    assert keys == ["sede", "training.loss", "evaluation.metrics[0]"]


@pytest.mark.parametrize("text", ["", "# nothing\n", "[1, 2]", "word", "name: x", "name: 3\nroles: 4\ngraph: []\n"])
def test_a_text_that_is_no_scenario_is_refused(text: str) -> None:
    with pytest.raises(ScenarioError):
        loads(text)


def test_absent_required_keys_are_all_named() -> None:
    with pytest.raises(ScenarioError) as caught:
        loads("name: x\n", "x.yaml")
    assert [row.split(":")[2].strip() for row in str(caught.value).splitlines()] == ["environment", "roles", "graph"]


@pytest.mark.parametrize("apart", [7, pytest.param(1, marks=pytest.mark.slow)])
def test_cutting_the_default_scenario_anywhere_loads_or_is_refused(default_text: str, apart: int) -> None:
    """At every byte; without the slow tests at every seventh and at each line's end."""
    data = default_text.encode()
    for end in sorted({*range(0, len(data), apart), *(at for at, byte in enumerate(data) if byte == ord("\n"))}):
        try:
            loads(data[:end], "cut.yaml")
        except ScenarioError as error:
            assert str(error).startswith("cut.yaml")


@settings(max_examples=150, deadline=None)
@given(place=st.integers(0, 3000), letter=st.sampled_from([*":-[]{}#&*!|>'\" \n\t,?0a\x00é"]))
def test_one_wrong_letter_loads_or_is_refused(default_text: str, place: int, letter: str) -> None:
    place = min(place, len(default_text) - 1)
    try:
        loads(default_text[:place] + letter + default_text[place + 1 :], "x.yaml")
    except ScenarioError as error:
        assert str(error).startswith("x.yaml")


def test_a_resolved_scenario_survives_json(default_text: str) -> None:
    scenario = loads(default_text)
    stored = json.loads(json.dumps(scenario.resolved(), allow_nan=False))
    again = from_resolved(stored)
    assert again.resolved() == scenario.resolved() and again.digest == scenario.digest and again == scenario


def test_a_resolved_scenario_has_its_parts_defaults(default_text: str) -> None:
    data = loads(default_text).resolved()
    assert data["environment"] == {"kind": "toy", "mode": "predict_output", "timeout_s": 2.0}
    assert data["training"]["checkpoint"] == {"every": 1, "keep": 2}


def test_a_resolved_scenario_finds_its_files_again(folder: Path) -> None:
    scenario = load(folder / "small.yaml")
    assert from_resolved(scenario.resolved()).base == folder


def test_a_stored_scenario_can_be_shown_when_its_parts_are_gone(small: Small) -> None:
    data = {**small().resolved(), "environment": {"kind": "gone", "size": 3}}
    assert from_resolved(data, checked=False).environment.options == {"size": 3}
    with pytest.raises(ScenarioError, match="unknown environment 'gone'"):
        from_resolved(data)


def test_the_digest_is_of_the_content(small: Small) -> None:
    spelled_out = small(("name: small\n", "seed: 0\nname: small\n"), ("environment: toy", "environment: {kind: toy}"))
    assert small().digest == spelled_out.digest != small(overrides=("seed=1",)).digest


def test_a_scenario_is_frozen(small: Small) -> None:
    with pytest.raises(ValueError, match="frozen"):
        small().seed = 3


@pytest.mark.parametrize(
    ("override", "read"),
    [
        ("seed=7", lambda s: s.seed == 7),
        ("training.optimizer.lr=1e-5", lambda s: s.training.optimizer.lr == 1e-5),
        ("training.advantage.kind=rloo", lambda s: s.training.advantage.kind == "rloo"),
        ("environment.mode=predict_input", lambda s: s.environment.options["mode"] == "predict_input"),
        ("roles.solver.reward.verifier=0.5", lambda s: s.roles["solver"].reward == {"verifier": 0.5}),
        ("evaluation.metrics=[accuracy, pass@2]", lambda s: s.evaluation.metrics == ("accuracy", "pass@2")),
        ("graph.edges.0=solve -> judge", lambda s: s.graph_spec().edges[0].condition is None),
        ("budget.minutes=3", lambda s: s.budget.minutes == 3),
        ("store.url=sqlite:///a=b.db", lambda s: s.store.url == "sqlite:///a=b.db"),
    ],
)
def test_an_override_replaces_one_value(small: Small, override: str, read: Callable[[Scenario], bool]) -> None:
    assert read(small(overrides=(override,)))


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("training.stepz=3", "training.stepz: unknown key 'stepz'; did you mean 'steps'?"),
        ("trainig.steps=3", "unknown key 'trainig'; did you mean 'training'?"),
        ("seed=x", "seed: found 'x'; a whole number is needed"),
        ("seed", "an override is written key=value"),
        ("=3", "an override is written key=value"),
        ("a..b=3", "an override is written key=value"),
        ("seed=[1", "not YAML"),
        ("seed=!!int 3", "tag"),
        ("graph.edges.4=a -> b", "graph.edges is a list of 1"),
        ("seed.x=1", "seed is 0, which has no keys"),
        ("roles.solver.sampling.top_p=0.9", "refused for a trainable role"),
    ],
)
def test_a_wrong_override_names_itself(small: Small, override: str, words: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        small(("name: small", "name: small\nseed: 0"), overrides=(override,))
    assert str(caught.value).startswith(f"-s {override}: ") and words in str(caught.value)


def test_an_override_cannot_reach_into_a_preset(default_text: str) -> None:
    with pytest.raises(ScenarioError, match="graph is the preset"):
        loads(default_text, overrides=("graph.start=solve",))


def test_the_last_override_wins(small: Small) -> None:
    assert small(overrides=("seed=1", "seed=2")).seed == 2


def test_aliased_values_are_overridden_one_at_a_time(small: Small) -> None:
    text = (
        "{prompt: brief/solver, reward: [verifier]}",
        "{prompt: brief/solver, reward: [verifier], sampling: &s {max_tokens: 9}}",
    )
    other = ("{prompt: brief/critic, reward: [verdict]}", "{prompt: brief/critic, reward: [verdict], sampling: *s}")
    scenario = small(text, other, overrides=("roles.critic.sampling.max_tokens=5",))
    assert [role.sampling.max_tokens for role in scenario.roles.values()] == [9, 5]


@pytest.mark.parametrize(
    ("name", "hint"), [("smal.yaml", "did you mean"), ("no/where.yaml", "no such file"), (".", "folder")]
)
def test_a_file_that_is_not_there_is_told(folder: Path, name: str, hint: str) -> None:
    with pytest.raises(ScenarioError, match=hint):
        load(folder / name)


def test_environment_variables_are_not_read(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODEL", "secret")
    assert small(overrides=("policy.model=${MODEL}",)).policy.model == "${MODEL}"


def test_user_files_register_parts_and_tell_their_own_errors(folder: Path) -> None:
    parts = 'from sparring.scenarios.registry import rewards\n\n@rewards("mine-{}")\ndef mine(): ...\n'
    (folder / "parts.py").write_text(parts.replace("{}", folder.name))
    scenario = load(folder / "small.yaml", ["load=[parts.py]", f"roles.solver.reward=[mine-{folder.name}]"])
    assert scenario.load == ("parts.py",)
    (folder / "broken.py").write_text("x = 1\ny = x / 0\n")
    with pytest.raises(ScenarioError, match=r"load\[0\]: .*broken.py:2: ZeroDivisionError"):
        load(folder / "small.yaml", ["load=[broken.py]"])


@pytest.mark.parametrize("file", sorted(SHIPPED.glob("*.yaml")), ids=lambda file: file.stem)
def test_every_shipped_scenario_is_sound(file: Path) -> None:
    scenario = load(file)
    assert load(file.stem).name == scenario.name == file.stem
