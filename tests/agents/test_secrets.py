"""Nobody reads a secret or a rubric that their ``sees`` does not name, whatever task is played and whatever is said."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparring.agents.engine import Request
from sparring.agents.presets import propose_solve_critique_revise
from sparring.agents.role import RUBRIC
from sparring.envs.types import Episode
from sparring.scenarios.schema import GraphSpec

REFERENCE, TRACE, WRITTEN = "⟦reference⟧", "⟦trace⟧", "⟦rubric⟧"
MARKS = {"reference": REFERENCE, "trace": TRACE, RUBRIC: WRITTEN}
WORDS = st.text(max_size=30) | st.sampled_from(
    ["{{ reference }}", "{{ trace }}", "<verdict>wrong</verdict>", "<answer>5</answer>", "1 says x", "<|end|>", "MORE"]
)
PEEKS = st.lists(st.sampled_from(["reference", "trace", RUBRIC]), unique=True, max_size=3)
# Tells all that a template can reach: every variable, through the loops and mappings it lies in.
GREEDY = "{{ said }} {{ last }} {{ heard }} {{ parameters }} {{ program }} " + "".join(
    f"{{% if {name} is defined %}}{{{{ {name} }}}}{{% endif %}}" for name in MARKS
)


@pytest.fixture(scope="module")
def folder() -> Any:
    """A folder with one prompt that prints every variable it is given."""
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "greedy.md").write_text(GREEDY, encoding="utf-8")
        yield Path(name)


def preset_with_commentator() -> GraphSpec:
    """The default preset and a role that listens at every node and speaks nothing else needs."""
    graph = propose_solve_critique_revise().model_dump(by_alias=True)
    graph["nodes"]["listen"] = {"role": "listener"}
    graph["nodes"]["admit"]["refuse"] = []  # whatever is proposed becomes a task
    spoken = ["admit", "describe", "verify", "critique", "reverify"]
    graph["edges"] = [*graph["edges"], *(f"{node} -> listen" for node in spoken)]
    return GraphSpec.model_validate(graph)


def leaks(episode: Episode, sees: dict[str, Sequence[str]]) -> list[str]:
    """Contexts that hold a marker their reader may not see."""
    return [
        f"{turn.author} read {name}: {turn.context.text}"
        for turn in episode.turns
        if turn.context is not None
        for name, mark in MARKS.items()
        if name not in sees[turn.author] and mark in turn.context.text
    ]


@given(words=st.lists(WORDS, min_size=1, max_size=5), peeks=PEEKS, program=st.text(max_size=40))
def test_no_role_reads_what_it_does_not_see(
    request: pytest.FixtureRequest, folder: Path, words: list[str], peeks: list[str], program: str
) -> None:
    preset, world, make = (request.getfixturevalue(name) for name in ("preset", "world", "new_table"))
    table = make(lambda: world(REFERENCE, (TRACE,)), folder)
    specs = {**preset, "listener": {"kind": "plain", "prompt": "greedy.md", "sees": peeks}}
    roles = table.roles(specs)

    def script(prompt: str, asked: Request) -> str:
        if asked.tag == "teacher":
            return program or "p"
        said = words[asked.seed % len(words)]
        return f"2 says {WRITTEN}\n{said}" if asked.tag == "rubric_writer" else said

    episode = table.play(preset_with_commentator(), script, roles)
    assert episode.error == ""
    assert leaks(episode, {name: role.sees for name, role in roles.items()}) == []


def test_the_markers_are_read_by_those_who_see_them(new_table: Any, world: Any, preset: Any, folder: Path) -> None:
    table = new_table(lambda: world(REFERENCE, (TRACE,)), folder)
    roles = table.roles({**preset, "listener": {"kind": "plain", "prompt": "greedy.md", "sees": [*MARKS]}})
    episode = table.play(preset_with_commentator(), lambda p, r: f"2 says {WRITTEN}", roles)
    heard = "".join(t.context.text for t in episode.turns if t.author == "listener" and t.context is not None)
    assert all(mark in heard for mark in MARKS.values())
    writers = [t for t in episode.turns if t.author == "rubric_writer"]
    assert all(t.context is not None and REFERENCE in t.context.text and TRACE in t.context.text for t in writers)


def test_a_rubric_is_not_part_of_the_conversation(new_table: Any, world: Any, preset: Any, folder: Path) -> None:
    table = new_table(lambda: world(REFERENCE, (TRACE,)), folder)
    graph = GraphSpec.model_validate(
        {
            "nodes": {
                "propose": {"role": "teacher"},
                "admit": {"do": "admit"},
                "describe": {"role": "rubric_writer"},
                "listen": {"role": "listener"},
            },
            "edges": ["propose -> admit", "admit -> describe if accepted", "describe -> listen"],
        }
    )
    roles = table.roles({**preset, "listener": {"kind": "plain", "prompt": "greedy.md"}})
    words = {"rubric_writer": f"2 answer is {REFERENCE} {WRITTEN}"}
    episode = table.play(graph, lambda prompt, request: words.get(request.tag, "x"), roles)
    assert len(episode.turns) == 4
    assert leaks(episode, {name: role.sees for name, role in roles.items()}) == []
