"""``trl``: what roles said as a data set that trainers read with Hugging Face ``datasets``, in two forms.

``prompt_completion``: the exact text each turn read and said, its token ids and log-probs. ``messages``: the same as a
conversation. Every row has the turn's rewards, one column per score; ``README.md`` makes the folder a data set.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import select
from sqlalchemy.orm import Session

from sparring.envs.types import Episode, Turn
from sparring.scenarios.errors import StoreError
from sparring.scenarios.registry import nearest

from ..codec import escape
from ..rebuild import rebuild
from ..rows import parts
from ..store import Store, run_number
from ..tables import Advantages, Episodes, Scores, Steps, Turns
from .target import beside

FORMS = ("prompt_completion", "messages")
_AT_ONCE = 64  # episodes in memory at a time
_CARD = """---
configs:
- config_name: prompt_completion
  data_files: prompt_completion.jsonl
  default: true
- config_name: messages
  data_files: messages.jsonl
---

# What the roles of run {run} ({name}) said

{count} turns, exported by Sparring. `prompt_completion` holds the exact text and tokens, `messages` conversations.
A reward that could not be given is null, never 0.
"""


class _Credit(NamedTuple):
    """What a turn got in the step that played it: of its first trainer, and the pull over all."""

    reward: float | None
    advantage: float | None
    pull: float


class Wanted(NamedTuple):
    """Which turns: of this ``role`` ("": any), with each of these scores valued and at least so large."""

    role: str = ""
    least: Mapping[str, float] = {}

    def takes(self, row: Mapping[str, Any]) -> bool:
        """Whether a turn with these columns is one of them."""
        values = ((row[f"reward_{name}"], least) for name, least in self.least.items())
        return self.role in ("", row["role"]) and all(value is not None and value >= least for value, least in values)


ALL = Wanted()


class Part(NamedTuple):
    """A stretch of a conversation."""

    role: str
    content: str
    token_ids: tuple[int, ...]


def write_trl(store: Store, run: str, out: Path, wanted: Wanted = ALL) -> int:
    """Write the folder ``out``; returns how many turns it holds. Raises ``RunNotFound``, ``StoreError``.

    A turn is a row when it has tokens and is ``wanted``. Its prompt is what it is trained under: a ``train_context``
    where there is one.
    """
    name = store.run(run).name
    count = 0
    with beside(out) as draft, store.read() as session, ExitStack() as open_files:
        _check(session, run, wanted)
        draft.mkdir()
        files = {
            form: open_files.enter_context((draft / f"{form}.jsonl").open("w", encoding="ascii", newline="\n"))
            for form in FORMS
        }
        for row, talk in said_turns(session, run, score_names(session, run)):
            if not wanted.takes(row):
                continue
            for form in FORMS:
                files[form].write(json.dumps(_said(form, talk) | row) + "\n")
            count += 1
        (draft / "README.md").write_text(_CARD.format(run=run, name=escape(name), count=count), encoding="utf-8")
    return count


def _check(session: Session, run: str, wanted: Wanted) -> None:
    """Refuse a role or a score that the run does not have: nothing would be left."""
    spoke = (
        select(Turns.author).join(Episodes, Episodes.id == Turns.episode_id).join(Steps, Steps.id == Episodes.step_id)
    )
    there = {
        "role": sorted(session.scalars(spoke.where(Steps.run_id == run_number(run)).distinct())),
        "score": score_names(session, run),
    }
    asked = [("role", wanted.role)] if wanted.role else []
    for kind, name in [*asked, *(("score", name) for name in wanted.least)]:
        if name not in there[kind]:
            hint = nearest(name, there[kind])
            meant = f"did you mean {hint!r}? " if hint else ""
            raise StoreError(f"run {run} has no {kind} {name!r}: {meant}it has {', '.join(there[kind]) or 'none'}")


def _said(form: str, talk: Sequence[Part]) -> dict[str, Any]:
    """The columns with a turn's words; text that is no Unicode is escaped as in the database."""
    heard, answer = talk[:-1], talk[-1]
    if form == "messages":
        spoken = [{"role": part.role, "content": as_unicode(part.content)} for part in talk]
        return {"prompt": spoken[:-1], "completion": spoken[-1:], "messages": spoken}
    return {
        "prompt": as_unicode("".join(part.content for part in heard)),
        "completion": as_unicode(answer.content),
        "prompt_ids": [number for part in heard for number in part.token_ids],
        "completion_ids": list(answer.token_ids),
    }


def as_unicode(text: str) -> str:
    """``text``; escaped as in the database where it is no Unicode (a lone surrogate)."""
    return escape(text) if any("\ud800" <= sign <= "\udfff" for sign in text) else text


def score_names(session: Session, run: str) -> list[str]:
    """The names of all scores of a run."""
    wanted = select(Scores.name).join(Turns, Turns.id == Scores.turn_id).join(Episodes, Episodes.id == Turns.episode_id)
    wanted = wanted.join(Steps, Steps.id == Episodes.step_id).where(Steps.run_id == run_number(run))
    return sorted(session.scalars(wanted.distinct()))


def said_turns(session: Session, run: str, scores: Sequence[str]) -> Iterator[tuple[dict[str, Any], list[Part]]]:
    """The columns of every turn that has tokens, and its conversation."""
    wanted = select(Episodes.id, Steps.number.label("step")).join(Steps, Steps.id == Episodes.step_id)
    wanted = wanted.where(Steps.run_id == run_number(run)).order_by(Steps.number, Episodes.number)
    for rows in parts(list(session.execute(wanted)), _AT_ONCE):
        ids = [row.id for row in rows]
        credits = _credits(session, ids)
        for row, episode in zip(rows, rebuild(session, ids), strict=True):
            where = {"run": run, "step": row.step, "episode": f"{run}/{row.step}/{episode.index}"}
            for turn in episode.turns:
                if turn.token_ids:
                    credit = credits[row.id].get(turn.index)
                    yield where | _row(episode, turn, scores, credit), _talk(episode, turn)


def _credits(session: Session, ids: Sequence[int]) -> dict[int, dict[int, _Credit]]:
    """By episode and turn: what the turn got in the step that played it."""
    a = Advantages
    wanted = select(Turns.episode_id, Turns.number, a.reward, a.value, a.pull).select_from(a)
    wanted = wanted.join(Turns, Turns.id == a.turn_id).join(Episodes, Episodes.id == Turns.episode_id)
    wanted = wanted.where(Episodes.id.in_(ids), a.step_id == Episodes.step_id).order_by(a.id)
    found: defaultdict[int, dict[int, _Credit]] = defaultdict(dict)
    for row in session.execute(wanted):
        known = found[row.episode_id].get(row.number)
        first = _Credit(row.reward, row.value, row.pull)
        found[row.episode_id][row.number] = known._replace(pull=known.pull + row.pull) if known else first
    return found


def _row(episode: Episode, turn: Turn, scores: Sequence[str], credit: _Credit | None) -> dict[str, Any]:
    given = {score.name: score.value for score in reversed(episode.scores.get(turn.index, ()))}
    return {
        "turn": turn.index,
        "parent": turn.parent,
        "role": turn.author,
        "node": turn.node,
        "sample": turn.sample,
        "task": turn.task,
        "ending": str(episode.ending),
        "finish": None if turn.finish is None else str(turn.finish),
        "engine": turn.engine,
        "policy_version": turn.policy_version,
        "reward": credit and credit.reward,
        "advantage": credit and credit.advantage,
        "pull": credit and credit.pull,
        "logprobs": [number if math.isfinite(number) else None for number in turn.logprobs],
        **{f"reward_{name}": given.get(name) for name in scores},
    }


def _talk(episode: Episode, turn: Turn) -> list[Part]:
    """The author's conversation up to and with this turn, from the last ``train_context`` on."""
    talk = [Part("assistant", turn.said, turn.token_ids)]
    before: Turn | None = turn
    while before is not None:
        heard = before.train_context or before.context
        if heard is not None:
            talk.insert(0, Part("user", heard.text, heard.token_ids))
        stripped = before.train_context is not None
        before = None if stripped or before.follows is None else episode.turns[before.follows]
        if before is not None:
            talk.insert(0, Part("assistant", before.said, before.token_ids))
    return talk
