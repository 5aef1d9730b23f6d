"""``prune --tokens`` and ``--older-than`` as they are typed, and what commands say afterwards."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from typer.testing import Result

Told = Callable[..., Result]


def test_tokens_go_only_with_yes_and_it_is_told_first(filled: str, told: Told) -> None:
    asked = told("prune", "--tokens", "--keep-tokens", "1")
    assert "would lose its tokens" in asked.output and "prune --tokens --keep-tokens 1 --yes" in asked.output
    assert json.loads(told("show", "r1/0/0", "--json").output)["thinned"] is None
    done = told("prune", "--tokens", "--keep-tokens", "1", "--yes")
    assert "the tokens of 8 episodes are gone" in done.output and done.exit_code == 0
    assert json.loads(told("show", "r1/0/0", "--json").output)["thinned"] is not None
    assert told("verify", "--no-checkpoints").exit_code == 0


def test_who_reads_is_told_that_tokens_are_gone(filled: str, told: Told) -> None:
    told("prune", "--tokens", "--keep-tokens", "1", "--yes")
    assert "its tokens were dropped on" in told("show", "r1/0/0").output
    assert "were dropped" not in told("show", "r1/2/0").output
    assert "tokens of this step were dropped on" in told("why", "r1/0").output
    assert "tokens of some episodes were dropped on" in told("export", "r1", "--to", "jsonl").stderr
    assert "their turns are left out" in told("export", "r1", "--to", "trl").stderr
    refused = told("replay", "r1/0")
    assert refused.exit_code != 0 and "a replay needs them" in refused.output


def test_json_tells_what_each_run_loses_or_why_not(filled: str, told: Told) -> None:
    answer = json.loads(told("prune", "--tokens", "--keep", "0", "--json").output)
    assert answer["thinned"]["r1"]["episodes"] == 12 and not answer["done"]
    assert json.loads(told("prune", "--tokens", "--keep", "1", "--json").output)["kept"] == {"r1": "among the newest"}


@pytest.mark.parametrize(("words", "said"), [
    ((), "give a rule"), (("--tokens",), "give a rule"), (("--keep", "1", "--keep-tokens", "2"), "goes with --tokens"),
    (("--older-than", "soon"), "write a number"),
])  # fmt: skip
def test_a_rule_is_asked_for(filled: str, told: Told, words: tuple[str, ...], said: str) -> None:
    refused = told("prune", *words)
    assert refused.exit_code == 2 and said in refused.output


def test_age_alone_is_a_rule(filled: str, told: Told) -> None:
    assert "stays: not that old" in told("prune", "--older-than", "30d").output
    assert json.loads(told("prune", "--older-than", "2w", "--json").output)["gone"] == []
