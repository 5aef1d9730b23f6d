"""``environment: {kind: ..., retry: {attempts: 5}}``: after a wrong answer the world only says to try again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, SupportsFloat

from pydantic import BaseModel, ConfigDict, Field

from sparring.scenarios.ref import Number, Whole
from sparring.scenarios.registry import wrappers

from .base import Environment
from .guard import unusable
from .types import Score, Validity

VERIFIER = "verifier"
ATTEMPTS = "attempts"  # the score it gives
RIGHT_AT = 0.5  # a graded verifier counts as right from here on


class RetryOptions(BaseModel):
    """``attempts``: answers an episode may hold. ``feedback``: all that is said after a wrong one.

    Success with the answer number t earns ``decay`` to the power t - 1; of answers that were given before
    ``repeat_penalty`` x (1 - different / all) is taken off.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    attempts: Whole = Field(default=5, ge=1, le=100)
    feedback: str = Field(default="Try again.", min_length=1)
    decay: Number = Field(default=0.5, ge=0, le=1)
    repeat_penalty: Number = Field(default=0.1, ge=0)


@wrappers("retry")
class Retry:
    """Another attempt after every wrong answer, told nothing but that it was wrong (arXiv 2507.14295).

    An answer is what the verifier judges (a reward at the end, where the environment gives no scores); tools and moves
    in between are as ever. The world is put back to before a wrong one; one that keeps no snapshots begins the same
    episode anew. A right answer ends the episode without a word, whatever tries the environment has itself, and so does
    one that the environment cuts off. The last answer gets the score ``attempts`` beside the verifier's:
    decay^(t - 1) if it is right, the t-th, else 0, less repeat_penalty x (1 - different answers / answers).
    """

    Config = RetryOptions
    scores = (ATTEMPTS,)

    @staticmethod
    def around(kind: type[Environment], options: RetryOptions) -> type[Environment]:
        """``kind`` with these options of a retry: a class of its own, for any environment."""
        name = f"Retry{kind.__name__}"
        own = {"retry": options, "scores": (*kind.scores, *Retry.scores), "__doc__": kind.__doc__}
        return type(name, (Retrying, kind), {**own, "__qualname__": f"Retry.around.<locals>.{name}"})


def answered(text: str) -> str:
    """What was answered: the text in the last ``<answer>`` tag where there is one, else all of it, stripped.

    >>> answered("<think>7</think> <answer> 8 </answer>"), answered(" rock ")
    ('8', 'rock')
    """
    _, found, rest = text.rpartition("<answer>")
    inside, closed, _ = rest.partition("</answer>")
    return (inside if found and closed else text).strip()


def judged(given: Any, reward: SupportsFloat, over: bool) -> Sequence[Any]:
    """An answer's scores. Where the environment gives none, the reward at the end of an episode is the verifier's.

    None for several seats, and for what is no list of scores.
    """
    if given is None and over and not unusable(reward):
        return (Score.valued(VERIFIER, float(reward), "environment"),)
    return given if isinstance(given, Sequence) else ()


def is_right(scores: Sequence[Any]) -> bool | None:
    """Whether the answer is right; ``None`` where nobody judged it."""
    given = [score for score in scores if isinstance(score, Score) and score.name == VERIFIER]
    value = given[0].value if given and given[0].validity is Validity.VALUED else None
    return None if value is None or unusable(value) else value >= RIGHT_AT


class Retrying(Environment):
    """What is put before an environment's class, and hides none of its names. ``said`` are this episode's answers."""

    retry: RetryOptions

    def __init__(self, *given: Any, **more: Any) -> None:
        """As the environment's own."""
        super().__init__(*given, **more)
        self.said: tuple[str, ...] = ()
        self.__seed: int | None = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        """Start an episode, with nothing said yet."""
        self.said, self.__seed = (), seed
        return super().reset(seed=seed, options=options)

    def step(self, action: str) -> tuple[str, SupportsFloat, bool, bool, dict[str, Any]]:
        """The environment's own step; where the verifier judges it wrong, the feedback and another attempt."""
        before = super().snapshot() if self.__keeps else None
        found = super().step(action)
        _, reward, over, cut, info = found
        scores = judged(info.get("scores"), reward, over or cut)
        right = is_right(scores)
        if right is None:
            return found
        said = self.said = (*self.said, answered(action))
        if not right and not cut and len(said) < self.retry.attempts:
            self.__back(before)
            self.said = said
            return self.retry.feedback, 0.0, False, False, {**info, "scores": scores}
        scores = [*scores, Score.valued(ATTEMPTS, self.earned(right), "retry", f"{len(said)} attempts")]
        return "" if right else self.retry.feedback, reward, True, cut, {**info, "scores": scores}

    def earned(self, right: bool) -> float:
        """decay^(t - 1) where the answer number t is right, less the penalty for answers given again."""
        n = len(self.said)
        success = self.retry.decay ** (n - 1) if right else 0.0
        return success - self.retry.repeat_penalty * (1 - len(set(self.said)) / n)

    def state(self) -> object:
        """The environment's own, and what was said."""
        own = super().state()
        return own if own is NotImplemented else (self.said, own)

    def set_state(self, state: Any) -> None:
        """Back to that moment."""
        self.said, own = state
        super().set_state(own)

    @property
    def __keeps(self) -> bool:
        return super().state() is not NotImplemented

    def __back(self, before: object | None) -> None:
        if before is not None:
            self.restore(before)
        else:
            super().reset(seed=self.__seed, options={"task": self.task})
