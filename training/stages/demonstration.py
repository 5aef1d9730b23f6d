"""Demonstrations: where every attempt at a task failed, a given answer joins the group, tokens and all.

``demonstrate`` puts it into the episode as a turn before groups are formed; the stage decides which groups learn it.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from jinja2 import StrictUndefined, TemplateError, TemplateSyntaxError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from pydantic import Field, field_validator

from sparring.agents.conditions import VERIFIER, outcome
from sparring.agents.engine import DEMONSTRATION, Renderer, spoken
from sparring.envs.types import Ending, Episode, Finish, Score, Task, Turn
from sparring.scenarios.errors import ScenarioError
from sparring.scenarios.registry import group_stages

from ..groups import Group, Member, Place
from .base import RIGHT_AT, GroupStage, StageOptions, thinned
from .substitutes import scored

UNKNOWN = float("nan")
_JINJA = ImmutableSandboxedEnvironment(undefined=StrictUndefined, autoescape=False)


@group_stages("demonstrations")
class Demonstrations(GroupStage):
    """Adds the task's demonstration where every attempt failed: a member that was not sampled.

    Formula: n + 1 members when max R < right
    Source: LUFFY, arXiv 2504.14945
    """

    class Config(StageOptions):
        """``role`` is whose turns are demonstrated, ``nodes`` at which graph nodes (none: all).

        ``template`` makes the text from the task's secrets, as in ``<answer>{{ reference }}</answer>``. ``path`` is a
        file with one JSON object per line instead, ``{"key": the task's key, "text": what to say}``; a task that is not
        in it has no demonstration. ``right``: a member is right from this reward on. ``weight`` is the demonstration's
        share of the gradient beside that of a sampled turn.
        """

        role: str = Field(min_length=1)
        nodes: tuple[str, ...] = ()
        template: str = "<answer>{{ reference }}</answer>"
        path: str = ""
        right: float = RIGHT_AT
        weight: float = Field(default=1.0, ge=0)

        @field_validator("template")
        @classmethod
        def _reads(cls, value: str) -> str:
            try:
                _JINJA.from_string(value)
            except TemplateSyntaxError as error:
                raise ValueError(f"not jinja2: {error.message}") from None
            return value

    def __init__(self, config: Config) -> None:
        self.config: Demonstrations.Config = config
        self._texts = read_texts(Path(config.path)) if config.path else None

    def text(self, task: Task) -> str | None:
        """What to say about this task; ``None`` when the file has nothing. Raises ``ScenarioError``."""
        if self._texts is not None:
            return self._texts.get(task.key)
        try:
            return _JINJA.from_string(self.config.template).render(task.secret)
        except TemplateError as error:
            there = ", ".join(sorted(task.secret)) or "none"
            raise ScenarioError(
                f"group stage demonstrations: template {self.config.template!r}: {error}; task {task.key} has these "
                f"secrets: {there}"
            ) from error

    def offer(self, episodes: Sequence[Episode], renderer: Renderer) -> list[Episode]:
        """The episodes, a demonstration added wherever all attempts of one turn's children failed."""
        found = []
        for episode in episodes:
            for like in self._failed(episode) if episode.ending is not Ending.BROKE else ():
                task = episode.task(like.task)
                text = self.text(task) if task is not None else None
                if text is not None:
                    episode = demonstrate(episode, like, text, renderer)
            found.append(episode)
        return found

    def change(self, group: Group, episodes: Sequence[Episode]) -> Group:
        """A failed group with its first demonstration; any other without one."""
        if self.config.nodes and group.node not in self.config.nodes:
            return group
        sampled = [at for at, member in enumerate(group.members) if not _shown(member.place, episodes)]
        own = thinned(group, sampled, "nothing but demonstrations")
        if own.dropped or any(reward >= self.config.right for reward in own.reward_G):
            return own
        shown = self._shown_to(group, episodes)
        if shown is None:
            return own
        return replace(own, members=(*own.members, replace(shown, weight=self.config.weight, note=DEMONSTRATION)))

    def _failed(self, episode: Episode) -> list[Turn]:
        """One turn of every set of siblings of which some were judged, none right and none is a demonstration."""
        siblings: defaultdict[tuple[str, int | None], list[Turn]] = defaultdict(list)
        for turn in episode.turns:
            if turn.author == self.config.role and turn.token_ids and turn.node in (self.config.nodes or (turn.node,)):
                siblings[turn.node, turn.parent].append(turn)
        found = []
        for turns in siblings.values():
            judged = {outcome(episode.score(turn.index, VERIFIER)) for turn in turns}
            if False in judged and True not in judged and not any(turn.engine == DEMONSTRATION for turn in turns):
                found.append(turns[0])
        return found

    def _shown_to(self, group: Group, episodes: Sequence[Episode]) -> Member | None:
        known = {member.place: member for member in group.members}
        parents = {(at, episodes[at].turns[index].parent) for at, index in known}
        for at in sorted({place.episode for place in known}):
            for turn in episodes[at].turns:
                place = Place(at, turn.index)
                fits = turn.node == group.node and turn.author == group.role and (at, turn.parent) in parents
                if fits and turn.engine == DEMONSTRATION:
                    return known.get(place) or scored(place, episodes)
        return None


def _shown(place: Place, episodes: Sequence[Episode]) -> bool:
    return episodes[place.episode].turns[place.turn].engine == DEMONSTRATION


def demonstrate(episode: Episode, like: Turn, text: str, renderer: Renderer, reward: float = 1.0) -> Episode:
    """The episode with one more sibling of ``like`` that says ``text``, in the context ``like`` was sampled in.

    Its tokens are the renderer's, end of turn included, its log-probs nan: nobody sampled it. It gets a valued verifier
    score of ``reward``. Raises ``ScenarioError`` when the chat template does not leave ``text`` as it is.
    """
    ids = spoken(text, renderer)
    before = [turn for turn in episode.turns if (turn.node, turn.parent) == (like.node, like.parent)]
    turn = like.amended(
        index=len(episode.turns),
        said=text,
        sample=1 + max((turn.sample for turn in before), default=like.sample),
        token_ids=ids,
        logprobs=(UNKNOWN,) * len(ids),
        finish=Finish.STOP,
        engine=DEMONSTRATION,
        parsed=None,
        seed=0,
        spans=(),
    )
    scores = {**episode.scores, turn.index: (Score.valued(VERIFIER, reward, DEMONSTRATION),)}
    return replace(episode, turns=(*episode.turns, turn), scores=scores)


def read_texts(path: Path) -> Mapping[str, str]:
    """Demonstrations by task key from a file of JSON lines; raises ``ScenarioError`` with file and line."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ScenarioError(f"demonstrations: {path} cannot be read: {error}") from error
    found: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ScenarioError(f"{path}:{number}: not JSON: {error}") from None
        key, text = (row.get("key"), row.get("text")) if isinstance(row, dict) else (None, None)
        if not isinstance(key, str) or not isinstance(text, str):
            raise ScenarioError(f'{path}:{number}: {{"key": the task\'s key, "text": what to say}} is needed, as texts')
        found[key] = text
    return found
