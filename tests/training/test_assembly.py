"""Token-in, token-out: what roles sampled in random graphs is what is trained, once, in the context the engine saw."""

from __future__ import annotations

import asyncio
import math
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparring.agents.engine import Completion, Request
from sparring.agents.graph import build_graph, play
from sparring.agents.role import Role, make_role
from sparring.agents.stage import Runtime
from sparring.agents.world import Pool
from sparring.envs.echo import EchoEnvironment
from sparring.envs.types import Ending, Episode, Segment, Turn
from sparring.scenarios.schema import Edge, GraphSpec, NodeSpec, RoleSpec, Sampling
from sparring.storage.records import AdvantageRow
from sparring.training.engines.embedded import TransformersEngine
from sparring.training.engines.render import ChatRenderer
from sparring.training.losses.presets import Dapo, Grpo, Shaped
from sparring.training.pack import pack
from sparring.training.rows import Row

LOSSES = {"policy": Dapo()}
ROLES = ("asker", "solver", "critic")


class Recorder:
    """The engine, with every prompt it was given, by the seed of the request."""

    def __init__(self, engine: TransformersEngine) -> None:
        self.engine = engine
        self.prompt_of: dict[int, tuple[int, ...]] = {}

    async def generate(self, requests: Sequence[Request]) -> list[Completion]:
        self.prompt_of |= {request.seed: request.prompt_ids for request in requests}
        return await self.engine.generate(requests)


@st.composite
def graphs(draw: st.DrawFn) -> GraphSpec:
    """Chains of speaking and acting nodes with shortcuts: several samples, branches, fresh and continued talks."""
    speakers = draw(st.lists(st.sampled_from(ROLES), min_size=2, max_size=4))
    nodes: dict[str, NodeSpec] = {}
    for at, role in enumerate(speakers):
        samples, fresh = draw(st.integers(1, 2)), draw(st.sampled_from([False, False, True]))
        nodes[f"speak{at}"] = NodeSpec(role=role, samples=samples, fresh=fresh, at_most=draw(st.integers(1, 3)))
        if draw(st.booleans()):
            nodes[f"act{at}"] = NodeSpec(do="step")
    names = list(nodes)
    edges = [Edge.model_validate({"from": one, "to": [other]}) for one, other in pairwise(names)]
    shortcut = draw(st.sampled_from([0, *range(1, len(names))]))
    if shortcut and (later := [name for name in names[shortcut + 1 :] if name.startswith("speak")]):
        edges.append(Edge.model_validate({"from": names[shortcut], "to": [later[-1]]}))
    return GraphSpec(nodes=nodes, edges=tuple(edges), start=names[0])


@pytest.fixture(scope="module")
def roles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Role]:
    folder = tmp_path_factory.mktemp("prompts")
    (folder / "prompt.md").write_text(
        "{{ text }}\n{% for one in heard %}{{ one.author }}: {{ one.text }}\n{% endfor %}"
    )
    spec = RoleSpec(kind="plain", prompt="prompt.md", sampling=Sampling(max_tokens=7))
    return {name: make_role(name, spec, Path(folder)) for name in ROLES}


def played(graph: GraphSpec, seed: int, engine: Recorder, renderer: ChatRenderer, roles: dict[str, Role]) -> Episode:
    runtime = Runtime(roles, {"policy": engine}, renderer, Pool(EchoEnvironment), seed=(seed,))
    task = EchoEnvironment().sample({"length": 3}, np.random.default_rng(seed))
    episode = asyncio.run(play(build_graph(graph), runtime, task=task))
    assert not episode.error, episode.error
    return episode


def advantages(episode: Episode, seed: int) -> list[AdvantageRow]:
    rng = random.Random(seed)
    return [
        AdvantageRow(0, turn.index, turn.author, 0, 0.0, rng.choice([0.0, -0.5, 1.5]), 1.0, len(turn.token_ids), 0.0)
        for turn in episode.turns
        if turn.token_ids
    ]


def stretches(row: Row) -> Iterator[tuple[int, int]]:
    """Where trained tokens stand without a gap: (first, one past the last)."""
    for trained, places in groupby(range(len(row.token_ids)), key=lambda at: row.coefficient_T[at] != 0):
        if trained:
            found = list(places)
            yield found[0], found[-1] + 1


@settings(max_examples=25)
@given(graph=graphs(), seed=st.integers(0, 2**32))
def test_every_sampled_token_is_trained_once_in_the_context_the_engine_saw(
    graph: GraphSpec, seed: int, model: Any, renderer: ChatRenderer, roles: dict[str, Role], fresh: Callable[..., Any]
) -> None:
    engine = Recorder(TransformersEngine(model, renderer.stop_ids))
    episode = played(graph, seed, engine, renderer, roles)
    earned = advantages(episode, seed)
    rows = pack([episode], earned, {name: role.spec for name, role in roles.items()}, LOSSES).rows
    value_of = {row.turn: row.value for row in earned if row.value}
    expected: Counter[Any] = Counter()
    for index, value in value_of.items():
        turn = episode.turns[index]
        expected[turn.author, engine.prompt_of[turn.seed], turn.token_ids, turn.logprobs, value] += 1
    found: Counter[Any] = Counter()
    for row in rows:
        for first, last in stretches(row):
            assert len(set(row.streams["advantage"][first:last])) == 1
            said, drawn = tuple(row.token_ids[first:last]), tuple(row.streams["logprob_old"][first:last])
            found[row.role, tuple(row.token_ids[:first]), said, drawn, row.streams["advantage"][first]] += 1
            again = fresh(model, row.token_ids)[range(first, last), row.token_ids[first:last]]
            assert drawn == pytest.approx(again.tolist(), abs=1e-5)
    assert found == expected


def conversation(*turns: Turn) -> Episode:
    return Episode(0, 0, {}, turns, (), {}, {}, {}, Ending.DONE)


def spoken(index: int, context: tuple[int, ...], said: tuple[int, ...], **more: Any) -> Turn:
    segment = Segment("", context)
    return Turn(
        index, None if not index else index - 1, "n", "solver", "", context=segment, token_ids=said,
        logprobs=tuple(-float(token) for token in said), **more,
    )  # fmt: skip


def pulled(*values: float) -> list[AdvantageRow]:
    return [AdvantageRow(0, at, "solver", 0, 0.0, value, 1.0, 2, 0.0) for at, value in enumerate(values)]


SOLVER = {"solver": RoleSpec(kind="solver")}


def test_a_stripped_prompt_is_not_in_the_row_and_its_log_probs_are_unknown() -> None:
    first = spoken(0, (1, 2), (10, 11))
    second = spoken(1, (3, 99, 4), (12, 13), follows=0, train_context=Segment("", (3, 4)))
    third = spoken(2, (5,), (14, 15), follows=1)
    before, row = pack([conversation(first, second, third)], pulled(1.0, -1.0, 0.5), SOLVER, LOSSES).rows
    assert before.token_ids == [1, 2, 10, 11]
    assert before.streams["logprob_old"][2:4] == [-10.0, -11.0]
    assert row.token_ids == [3, 4, 12, 13, 5, 14, 15]
    assert row.streams["advantage"] == [0, 0, -1, -1, 0, 0.5, 0.5]
    assert all(math.isnan(row.streams["logprob_old"][at]) for at in (2, 3, 5, 6))


def test_a_turn_that_only_a_lost_one_follows_is_trained() -> None:
    turns = (spoken(0, (1,), (10, 11)), spoken(1, (2,), (), follows=0))
    (row,) = pack([conversation(*turns)], pulled(1.0, 1.0), SOLVER, LOSSES).rows
    assert row.token_ids == [1, 10, 11]


@st.composite
def trees(draw: st.DrawFn) -> list[Turn]:
    """Conversations that branch; any turn may have a prompt of its own for the update, some have no tokens."""
    turns: list[Turn] = []
    for at in range(draw(st.integers(1, 8))):
        follows = draw(st.none() | st.integers(0, at - 1)) if at else None
        stripped = draw(st.none() | st.just(Segment("", (50 + at, 51))))
        said = (10 + at, 20) if draw(st.integers(0, 4)) else ()
        turns.append(spoken(at, (30 + at,), said, follows=follows, train_context=stripped))
    return turns


def under(turns: list[Turn], turn: Turn) -> tuple[int, ...]:
    """What is read before the turn: its own prompt for the update, else that of the turn it follows and so on."""
    if turn.train_context is not None:
        return turn.train_context.token_ids
    before = () if turn.follows is None else under(turns, turns[turn.follows]) + turns[turn.follows].token_ids
    return before + (turn.context.token_ids if turn.context else ())


def unseen(turns: list[Turn], turn: Turn) -> bool:
    stripped = turn.train_context is not None
    return stripped or (turn.follows is not None and unseen(turns, turns[turn.follows]))


@given(turns=trees())
def test_every_turn_is_trained_once_under_the_prompt_for_the_update(turns: list[Turn]) -> None:
    said = [turn for turn in turns if turn.token_ids]
    wanted = [row for row in pulled(*(1.0 for _ in turns)) if turns[row.turn].token_ids]
    rows = pack([conversation(*turns)], wanted, SOLVER, LOSSES).rows
    spans = {span.turn: (row, span) for row in rows for span in row.spans}
    assert sorted(span.turn for row in rows for span in row.spans) == [turn.index for turn in said]
    for turn in said:
        row, span = spans[turn.index]
        assert tuple(row.token_ids[: span.start]) == under(turns, turn)
        assert tuple(row.token_ids[span.start : span.stop]) == turn.token_ids
        assert all(row.coefficient_T[span.start : span.stop])
        drawn = row.streams["logprob_old"][span.start : span.stop]
        assert all(map(math.isnan, drawn)) if unseen(turns, turn) else tuple(drawn) == turn.logprobs
    assert sum(map(bool, (share for row in rows for share in row.coefficient_T))) == sum(len(t.token_ids) for t in said)


def test_turns_of_two_losses_that_average_alike_share_one_denominator() -> None:
    """An inserted turn weighs as much as a sampled one, however few are inserted."""
    turns = (spoken(0, (1,), (10, 11)), spoken(1, (1,), (12, 13)), spoken(2, (1,), (14, 15)))
    losses = {"policy": Dapo(), "inserted": Shaped(), "mean": Grpo()}
    episode, rows = conversation(*turns), pulled(1.0, 1.0, 1.0)

    def coefficients(last: str) -> list[float]:
        packed = pack([episode], rows, SOLVER, losses, lambda row: last if row.turn == 2 else "policy")
        assert [row.loss for row in packed.rows] == ["policy", "policy", last]
        return [row.coefficient_T[-1] for row in packed.rows]

    assert coefficients("inserted") == pytest.approx([1 / 6] * 3)
    assert coefficients("mean") == pytest.approx([1 / 4, 1 / 4, 1 / 2])  # it averages otherwise: a count of its own


def test_what_follows_the_last_trained_turn_is_not_read() -> None:
    turns = (spoken(0, (1,), (10, 11)), spoken(1, (2,), (12, 13), follows=0))
    (row,) = pack([conversation(*turns)], pulled(1.0, 0.0), SOLVER, LOSSES).rows
    assert row.token_ids == [1, 10, 11]
    assert pack([conversation(*turns)], pulled(0.0, 0.0), SOLVER, LOSSES).rows == ()


def test_a_shared_beginning_is_trained_in_one_of_its_conversations() -> None:
    turns = (spoken(0, (1,), (10, 11)), spoken(1, (2,), (12, 13), follows=0), spoken(2, (2,), (14, 15), follows=0))
    rows = pack([conversation(*turns)], pulled(1.0, 1.0, 1.0), SOLVER, LOSSES).rows
    assert [row.token_ids for row in rows] == [[1, 10, 11, 2, 12, 13], [1, 10, 11, 2, 14, 15]]
    share = 1 / 6
    assert rows[0].coefficient_T == [0, share, share, 0, share, share]
    assert rows[1].coefficient_T == [0, 0, 0, 0, share, share]


def test_a_token_sampled_after_nothing_cannot_be_trained() -> None:
    with pytest.raises(ValueError, match="sampled after nothing"):
        pack([conversation(spoken(0, (), (10, 11)))], pulled(1.0), SOLVER, LOSSES)
