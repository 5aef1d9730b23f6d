"""Settling: after the graph has ended, every role turn gets the scores its role's reward list names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from sparring.envs.base import Environment
from sparring.envs.guard import cause, short, unusable
from sparring.envs.types import Ending, Episode, Finish, Score, Turn

from .rewards import Context, Reward
from .role import Role


def settle(
    episode: Episode, roles: Mapping[str, Role], environment: Environment, named: Mapping[str, Reward] | None = None
) -> Episode:
    """A copy of ``episode`` with all rewards. All are computed from the episode as played, so their order is nothing.

    ``named`` are the scenario's own rewards. One that fails is an invalid score with the error as its note, and so is
    one that is no finite number, wherever it came from. A broken episode comes back as it is.
    """
    if episode.ending is Ending.BROKE:
        return episode
    context = Context(roles, environment, named or {})
    episode = replace(episode, scores=_usable(episode.scores))
    scores = dict(episode.scores)
    for turn in episode.turns:
        role = roles.get(turn.author)
        if role is not None:
            scores[turn.index] = _settled(episode, turn, role, context)
    return replace(episode, scores=_usable(scores))


def _settled(episode: Episode, turn: Turn, role: Role, context: Context) -> tuple[Score, ...]:
    held = {score.name: score for score in episode.scores.get(turn.index, ())}
    if turn.finish is Finish.ABORT:
        return tuple(held.values())  # nobody said anything: what it got when it was written stands
    for name in role.spec.reward:
        for score in _scored(name, episode, turn, context):
            held.setdefault(score.name, score)
    return tuple(held.values())


def _scored(name: str, episode: Episode, turn: Turn, context: Context) -> tuple[Score, ...]:
    try:
        given = context.scores(name, episode, turn)
    except Exception as error:  # a plugged-in reward may fail; its score is then invalid, never 0
        return (Score.invalid(name, name, cause(error)),)
    nonsense = next((one for one in given if not isinstance(one, Score)), None)
    if nonsense is not None:
        return (Score.invalid(name, name, f"{short(nonsense)} is no score: give Score.valued(name, number, by)"),)
    return given


def _usable(scores: Mapping[int, tuple[Score, ...]]) -> dict[int, tuple[Score, ...]]:
    return {index: tuple(_number(score) for score in held) for index, held in scores.items() if held}


def _number(score: Score) -> Score:
    """The score, invalid when its value is no finite number: it is then masked, where NaN would spoil its group."""
    problem = unusable(score.value) if score.value is not None else ""
    return Score.invalid(score.name, score.by, problem) if problem else score
