"""What must fit together: graphs that end, prompts that read what their role sees, task files with whole lines."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sparring.scenarios.errors import ScenarioError
from sparring.scenarios.graph_checks import check_graph
from sparring.scenarios.load import SHIPPED, load, load_graph
from sparring.scenarios.mermaid import mermaid
from sparring.scenarios.problems import Problems, Sources
from sparring.scenarios.schema import Edge, GraphSpec, Scenario

Small = Callable[..., Scenario]
EDGE = "    - solve -> judge if wrong\n"
MISFITS = [
    ("role: critic}", "role: critc}", 9, "graph.nodes.judge.role: unknown role 'critc'; did you mean 'critic'?"),
    ("-> judge", "-> jugde", 11, "graph.edges[0]: unknown node 'jugde'; did you mean 'judge'?"),
    ("-> judge", "-> critic", 11, "'critic' is a role, edges name nodes"),
    ("samples: 4", "sampels: 4", 8, "graph.nodes.solve.sampels: unknown key 'sampels'; did you mean 'samples'?"),
    (EDGE, "    - {from: solve, too: judge}\n", 11, "graph.edges[0].too: unknown key 'too'; did you mean 'to'?"),
    ("if wrong", "if wrng", 11, "unknown condition 'wrng'; did you mean 'wrong'?"),
    (EDGE, "    - solve > judge\n", 11, "graph.edges[0]: an edge is written"),
    (EDGE, EDGE + EDGE, 12, "is there twice"),
    (EDGE, EDGE + "    - judge -> solve\n    - solve -> judge\n", 12, "the loop through solve, judge has no exit"),
    (EDGE, EDGE + "    - judge -> judge\n", 12, "the loop through judge has no exit"),
    (EDGE, "    - solve -> END\n", 9, "graph.nodes.judge: no path leads here from 'solve'"),
    (EDGE, EDGE + "    - END -> solve\n", 12, "unknown node 'END'"),
    ("  edges:", "  start: sovle\n  edges:", 10, "graph.start: unknown node 'sovle'; did you mean 'solve'?"),
    ("{role: solver, samples: 4}", "{do: step}", 6, "nobody has spoken yet"),
    ("{role: solver, samples: 4}", "{role: solver, do: step}", 8, "exactly one of role: or do:"),
    ("{role: critic}", "{do: step, samples: 2}", 9, "samples is for nodes with a role or do: draw"),
    ("{role: critic}", "{do: step, train_as: solve}", 9, "prompt, fresh and train_as are for nodes with a role"),
    ("{role: critic}", "{role: critic, train_as: solv}", 9, "judge.train_as: unknown node 'solv'"),
    ("{role: critic}", "{role: critic, train_as: solve}", 9, "'solve' is no node of role 'critic'"),
    ("{role: critic}", "{role: critic, train_as: judge}", 9, "no path leads from 'judge' to here"),
    ("brief/critic", "critique/indication_brief", 5, "reads outcome, which the role does not see"),
    ("{role: critic}", "{role: critic, search: {policy: uct}}", 9, "search is for nodes with do: select"),
    ("{role: critic}", "{do: select, search: {policy: ucb}}", 9, "found 'ucb'; did you mean 'uct'?"),
    ("{role: critic}", "{do: select, search: {leaf: verdct}}", 9, "'verdct'; did you mean 'verdict'?"),
    ("{role: critic}", "{do: select, search: {leaf: value}}", 9, "a role's rewards come after the search"),
    ("environment: toy", "environment: toy\nrewards: {fit: {kind: difficulty, score: majorty}}", 3, "mean 'majority'?"),
    ("{role: critic}", "{do: select, pick: first}", 9, "do: select chooses by its search"),
    ("{role: critic}", "{role: critic, pick: rigth}", 9, "pick: found 'rigth'; did you mean 'right'?"),
    ("{role: critic}", "{role: critic, prompt: brief/nothing}", 9, "graph.nodes.judge.prompt: no prompt"),
    ("    judge:", "    jud ge:", 7, "cannot name a node"),
    ("judge: {role: critic}", "judge: {role: solver}", 5, "roles.critic: speaks at no node of the graph"),
    ("reward: [verdict]", "reward: {verdict: 0.0}", 5, "needs a reward that weighs something"),
    ("reward: [verdict]", "reward: [verdict], kind: critik", 5, "critic.kind: unknown role 'critik'; did you mean"),
    ("reward: [verdict]", "reward: [verdict], sampling: {top_k: 5}", 5, "truncated distribution"),
    ("reward: [verdict]", "reward: [verdict], sampling: {temperature: 0}", 5, "nothing to compare"),
    ("reward: [verdict]", "reward: [verdict], engine: scripted", 5, "through the policy's own engine"),
    ("reward: [verdict]", "trainable: false, sampling: {min_p: 0.1}", 5, "sampling.min_p: is refused: the role speaks"),
    ("reward: [verdict]", "trainable: false, compare: step", 5, "compare: has no effect"),
    ("reward: [verdict]", "trainable: false, weight: 2", 5, "weight: has no effect"),
    ("reward: [verdict]", "reward: [verdict], compare: sibling", 5, "found 'sibling'; did you mean 'siblings'?"),
    ("environment: toy", "environment: toy\ncurriculum: {kind: sec, role: solvr}", 3, "unknown role 'solvr'"),
    ("role: solver, samples: 4}", "role: solver}\n    admit: {do: admit}", 3, "tasks: the graph proposes its own"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "line", "words"), MISFITS, ids=[words[:40] for *_, words in MISFITS])
def test_what_does_not_fit_is_told_at_its_line(small: Small, old: str, new: str, line: int, words: str) -> None:
    more = [
        ("environment: toy", "environment: toy\ntasks: generator"),
        (EDGE, "    - solve -> admit\n    - admit -> judge\n"),
    ]
    with pytest.raises(ScenarioError) as caught:
        small((old, new), *(more if "proposes" in words else []))
    told = str(caught.value).splitlines()
    assert any(row.startswith(f"small.yaml:{line}: ") and words in row for row in told), told


@pytest.mark.parametrize("changes", [
    [(EDGE, EDGE + "    - judge -> solve if said_wrong\n")],
    [("reward: [verdict]", "trainable: false, sampling: {top_p: 0.9}, engine: scripted")],
    [(EDGE, "    - {from: solve, to: [judge, END], if: wrong}\n")],
    [("critic: {prompt: brief/critic, reward: [verdict]}", "critic:\n    prompt: brief/critic\n    reward: verdict")],
])  # fmt: skip
def test_what_fits_is_loaded(small: Small, changes: list[tuple[str, str]]) -> None:
    assert small(*changes).graph_spec().start == "solve"


def test_a_scenario_with_nothing_to_train_says_so(small: Small) -> None:
    frozen = [("reward: [verifier]", "trainable: false"), ("reward: [verdict]", "trainable: false")]
    with pytest.raises(ScenarioError, match="no role is trainable"):
        small(*frozen)
    assert small(*frozen, overrides=("training.steps=0",)).training.steps == 0


def test_a_prompt_reads_only_what_its_role_sees(folder: Path) -> None:
    (folder / "mine.md").write_text("{{ program }} gives {{ reference }}")
    with pytest.raises(
        ScenarioError, match=r"small.yaml:4: roles.solver.prompt: .* reads reference, which the role does"
    ):
        load_with(folder, "prompt: brief/solver", "prompt: mine.md")
    assert (
        load_with(folder, "prompt: brief/solver", "prompt: mine.md, sees: [reference]").roles["solver"].prompt
        == "mine.md"
    )


def test_a_prompt_reads_only_what_there_is(folder: Path) -> None:
    (folder / "mine.md").write_text("{{ programm }}{% for n in range(3) %}{{ n }}{{ parameters.depth }}{% endfor %}")
    with pytest.raises(ScenarioError, match=r"unknown variable 'programm'; did you mean 'program'\?") as caught:
        load_with(folder, "prompt: brief/solver", "prompt: mine.md")
    assert "\n" not in str(caught.value)


def test_a_node_prompt_reads_only_what_its_role_sees(folder: Path) -> None:
    (folder / "mine.md").write_text("{% for line in trace %}{{ line }}{% endfor %}")
    with pytest.raises(ScenarioError, match=r"small.yaml:9: graph.nodes.judge.prompt: .* reads trace"):
        load_with(folder, "{role: critic}", "{role: critic, prompt: mine.md}")


def test_a_prompt_file_that_is_absent_or_no_template_is_told(folder: Path) -> None:
    with pytest.raises(ScenarioError, match=r"roles.solver.prompt: .*absent.md"):
        load_with(folder, "prompt: brief/solver", "prompt: absent.md")
    (folder / "bad.md").write_text("{{ program")
    with pytest.raises(ScenarioError, match=r"roles.solver.prompt: .*bad.md"):
        load_with(folder, "prompt: brief/solver", "prompt: bad.md")


TASKS = ("environment: toy", "environment: toy\ntasks: {kind: jsonl, path: mine.jsonl}")


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (
            '{"program": "print(1)"}\n\n{"programm": "x"}\n',
            "mine.jsonl:3: the field 'program' is missing; found: programm",
        ),
        ('{"program": "print(1)"}\n{"program": \n', "mine.jsonl:2: not JSON"),
        ('{"program": 5}', "mine.jsonl:1: the field 'program' is 5; text is needed"),
        ("[1]\n", "mine.jsonl:1: found [1]; a JSON object is needed"),
        ("[" * 100_000, "mine.jsonl:1: not JSON"),
        ("\n\n", "holds no task"),
        ("1\n" * 50, "50 lines"),
    ],
)
def test_a_wrong_line_of_a_task_file_is_told_with_its_number(folder: Path, rows: str, words: str) -> None:
    (folder / "mine.jsonl").write_text(rows)
    with pytest.raises(ScenarioError) as caught:
        load_with(folder, *TASKS)
    assert words in str(caught.value)


def test_a_task_file_is_found_beside_the_scenario(folder: Path) -> None:
    with pytest.raises(ScenarioError, match=r"small.yaml:3: tasks.path: .*mine.jsonl cannot be read"):
        load_with(folder, *TASKS)
    (folder / "mine.jsonl").write_text('{"program": "print(1)", "answer": "1"}\n')
    source = load_with(folder, *TASKS).task_source()
    assert source is not None and source.options == {"path": str(folder / "mine.jsonl")}


def load_with(folder: Path, old: str, new: str) -> Scenario:
    """The small scenario of ``folder`` with one text replaced."""
    file = folder / "small.yaml"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
    try:
        return load(file)
    finally:
        file.write_text(text)


@pytest.mark.parametrize(("written", "targets", "condition"), [
    ("a -> b", ("b",), None), ("a->b,c if wrong", ("b", "c"), "wrong"), (" a-1 -> END ", ("END",), None),
])  # fmt: skip
def test_an_edge_is_read_from_its_short_form(written: str, targets: tuple[str, ...], condition: str | None) -> None:
    edge = Edge.model_validate(written)
    assert (edge.targets, edge.condition) == (targets, condition)


def test_a_graph_is_drawn_with_every_node_and_condition() -> None:
    nodes = {"ask": {"role": "teacher"}, "admit": {"do": "admit"}, "solve": {"role": "solver", "samples": 8}}
    drawn = mermaid(GraphSpec.model_validate({"nodes": nodes, "edges": ["ask -> admit", "admit -> solve if accepted"]}))
    assert drawn.startswith("flowchart TD\n    begin((start)) --> n0")
    for text in (
        'n0["ask: teacher"]',
        'n1(["admit: environment admit"])',
        "(x8)",
        "n1 -->|accepted| n2",
        "n2 --> done",
    ):
        assert text in drawn


def test_a_search_ends_with_its_budget_so_its_loop_needs_no_condition() -> None:
    nodes = {"act": {"role": "solver"}, "move": {"do": "step"}, "look": {"do": "select"}}
    graph = GraphSpec.model_validate({"nodes": nodes, "edges": ["act -> move", "move -> look", "look -> act"]})
    problems = Problems(Sources("graph"))
    check_graph(graph, ["solver"], problems)
    assert problems.found == []
    assert 'n2{"look: select"}' in mermaid(graph)


def test_a_graph_file_tells_its_lines(tmp_path: Path) -> None:
    (tmp_path / "g.yaml").write_text("nodes:\n  a: {role: x}\nedges: []\nstrat: a\n")
    with pytest.raises(ScenarioError, match=r"g.yaml:4: strat: unknown key 'strat'; did you mean 'start'"):
        load_graph(tmp_path / "g.yaml")


def test_checking_the_default_scenario_imports_no_model_library() -> None:
    code = (
        "import sys, sparring.scenarios.load as l\n"
        f"from sparring.training.cli import checking\nchecking.check({str(SHIPPED / 'code-output.yaml')!r})\n"
        "print(sorted({'torch', 'transformers', 'vllm', 'langgraph'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert done.stdout.splitlines()[-1:] == ["[]"], done.stderr


NAMING = (
    ("group.stages=[{kind: varied, role: sovler}]", "group.stages[0].role: unknown role 'sovler'"),
    ("group.stages=[{kind: replace, node: sovle}]", "group.stages[0].node: unknown node 'sovle'"),
    ("training.trainers={rl: {nodes: [sovle]}}", "training.trainers.rl.nodes[0]: unknown node 'sovle'"),
    ("training.trainers={rl: {stages: [{kind: varied, role: x}]}}", "trainers.rl.stages[0].role: unknown role 'x'"),
    ("training.trainers={sft: {roles: [solver, critc]}}", "trainers.sft.roles[1]: unknown role 'critc'"),
    ("training.trainers={sft: {roles: [critic]}}", "trainers.sft.roles[0]: role 'critic' is not trainable"),
    ("group.stages=[{kind: rounds, role: critic}]", "stages[0].role: role 'critic' is not trainable"),
    ("curriculum={kind: sec, role: critic}", "curriculum.role: role 'critic' is not trainable"),
)


@pytest.mark.parametrize(("written", "words"), NAMING)
def test_roles_and_nodes_that_parts_name_are_there(small: Small, written: str, words: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        small(("reward: [verdict]", "trainable: false"), overrides=(written,))
    assert words in str(caught.value) and "\n" not in str(caught.value)
