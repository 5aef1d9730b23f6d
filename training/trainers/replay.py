"""Replay: next-token prediction on general text beside whatever else is trained, against forgetting."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from sparring.scenarios.errors import ScenarioError

from ..losses.supervised import NextToken
from ..rows import Row
from .base import Made, Played
from .keeping import Kept, keep, recalled, row_of, said
from .picks import Choice, check_names, choose, groups_of
from .policy_gradient import MAIN

if TYPE_CHECKING:
    from sparring.scenarios.schema import Scenario

    from ..losses.base import Loss

TEXT = "text"  # whose words the rows of a file are


class TextReplay:
    """Replay: next tokens of general text, or of the policy's own earlier turns, so that it does not forget.

    L = -ce log pi + kl KL(reference || pi). The texts are few and fixed, as the source advises; a step draws some.
    Source: GeRe, arXiv 2508.04676.
    Gradient: -ce grad log pi + kl sum_v (pi_v - reference_v) grad logit_v.
    """

    class Config(Choice, NextToken.Config):
        """``path``: a file, from the scenario's folder; ``.jsonl`` holds objects with ``text``, any other file texts
        parted by blank lines. Absent: the policy's own turns, chosen by ``keep``, of which ``buffer`` are kept, each
        seen turn with the same chance. ``rows`` are drawn per step, each cut to ``length`` tokens. ``ce``, ``kl``: the
        weights of the text itself and of the reference's distributions.
        """

        path: str | None = None
        rows: int = Field(default=8, ge=1)
        length: int = Field(default=512, ge=2)
        buffer: int = Field(default=64, ge=1)

    def __init__(self, config: Config, scenario: Scenario) -> None:
        check_names(config, scenario)
        self.config = config
        self.losses: Mapping[str, Loss] = {MAIN: NextToken(NextToken.Config(ce=config.ce, kl=config.kl))}
        self.texts = [] if config.path is None else read_texts(scenario.base / config.path)

    def make(self, played: Played) -> Made:
        """At most ``rows`` rows; their coefficients add up to 1, every token alike."""
        kept: list[Kept] = played.state.setdefault("kept", [])
        pool = len(self.texts) if self.config.path is not None else len(kept)
        size = min(self.config.rows, pool)
        own: list[Kept] = []  # turns of the policy, whose records lead back to them
        drawn = sorted(int(at) for at in played.rng.choice(pool, size=size, replace=False)) if size else []
        if self.config.path is not None:
            rows = [self._of_text(self.texts[at], played.renderer) for at in drawn]
        else:
            own = [kept[at] for at in drawn if said(kept[at])]
            rows = [row_of(one, 1.0, MAIN) for one in own]
            self._keep(played, kept)
        rows = [row for row in rows if row.trained]
        total = sum(len(row.trained) for row in rows)
        shared = [
            replace(row, coefficient_T=[mark / total for mark in row.coefficient_T], unit=unit)
            for unit, row in enumerate(rows)
        ]
        back = recalled([(one, 1.0 / total) for one in own], "replayed")
        figures = {"rows": float(len(shared)), "pool": float(pool)}
        return Made(shared, back.groups, back.advantages, figures=figures, earlier=back.earlier)

    def _of_text(self, text: str, renderer: Any) -> Row:
        ids = [int(one) for one in renderer.tokenizer(text, add_special_tokens=False).input_ids]
        ids = ids[: self.config.length]
        return Row(TEXT, ids, [0.0] * min(1, len(ids)) + [1.0] * (len(ids) - 1), loss=MAIN)

    def _keep(self, played: Played, kept: list[Kept]) -> None:
        """A reservoir: after n turns each of them is kept with chance ``buffer`` / n."""
        for group in groups_of(played, self.config, shown=self.config.keep == "demonstrations"):
            for at in choose(group, played.episodes, self.config):
                member = group.members[at]
                seen = int(played.state.get("seen", 0)) + 1
                played.state["seen"] = seen
                slot = len(kept) if len(kept) < self.config.buffer else int(played.rng.integers(seen))
                if slot < self.config.buffer:
                    kept[slot : slot + 1] = [keep(played, member.place, member.reward)]


def read_texts(file: Path) -> list[str]:
    """The texts of a file. Raises ``ScenarioError`` when it cannot be read, a line is wrong, or it holds none."""
    try:
        whole = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ScenarioError(
            f"trainer replay: {file} cannot be read as text ({error}); path starts from the scenario's folder"
        ) from error
    if file.suffix == ".jsonl":
        texts = [_text_of(line, f"{file}:{number}") for number, line in enumerate(whole.split("\n"), 1) if line.strip()]
    else:
        texts = [part.strip() for part in whole.replace("\r\n", "\n").split("\n\n")]
    found = [text for text in texts if text.strip()]
    if not found:
        raise ScenarioError(f"trainer replay: {file} holds no text; give texts parted by blank lines, or JSON lines")
    return found


def _text_of(line: str, where: str) -> str:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ScenarioError(f"trainer replay: {where} is not JSON ({error}); one object with text is needed") from error
    text = row.get("text") if isinstance(row, dict) else None
    if not isinstance(text, str):
        raise ScenarioError(f'trainer replay: {where} has no text; an object as {{"text": "..."}} is needed')
    return text
