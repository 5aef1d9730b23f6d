"""What a replayed episode is played with in place of a model: an engine that says what was recorded, turn by turn.

A request is told by its role and its seed, both of which follow from the place in the tree alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sparring.envs.types import Episode, Finish, Refusal, Task, Turn

from .book import ENVIRONMENT
from .engine import DEMONSTRATION, Completion, Renderer, Request

RUN_REASONS = ("duplicate", "reserved")  # refusals by the run, not by the environment
NOT_RECORDED = "no turn is recorded for this place: the replay has left what was played"


class RecordedEngine:
    """Answers with the stored turns of some episodes. ``policy_version`` is for turns that nobody sampled.

    Text is decoded from the tokens again; where those are not the model's own (a model behind an API), the stored text
    stands.
    """

    def __init__(self, episodes: Sequence[Episode], renderer: Renderer) -> None:
        self._renderer = renderer
        self._turns = {
            (turn.author, turn.seed): turn
            for episode in episodes
            for turn in episode.turns
            if turn.author != ENVIRONMENT and turn.engine != DEMONSTRATION
        }
        self.policy_version = 0

    async def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """The recorded completion of each request; an aborted one where nothing is recorded."""
        return [self._said(self._turns.get((request.tag, request.seed))) for request in requests]

    def _said(self, turn: Turn | None) -> Completion:
        if turn is None:
            return Completion.aborted(NOT_RECORDED)
        if turn.finish is Finish.ABORT:
            told = turn.parsed.problem if turn.parsed is not None else None
            return Completion.aborted(told or "", turn.policy_version, turn.engine)
        own = self._renderer.decode(turn.token_ids) == turn.said
        return Completion(
            turn.token_ids,
            turn.logprobs,
            turn.finish or Finish.STOP,
            turn.policy_version,
            turn.engine,
            turn.spans,
            None if own else turn.said,
        )


def recorded_filter(episode: Episode, known: Callable[[str], bool]) -> Callable[[Task], Refusal | None]:
    """An ``admit_filter`` that decides as the run did: ``known`` tells whether another episode of the run holds the
    task with a key.

    A task the episode holds was let in once, and was a duplicate from then on. Whether a task was held out for
    evaluation is taken from the record.
    """
    given = next((turn.task for turn in episode.turns[:1] if is_given(turn)), None)
    waiting = {task.key for task in episode.tasks} - {given}
    refusals = {refusal.reason: refusal for refusal in episode.refusals.values()}

    def refused(task: Task) -> Refusal | None:
        if task.key in waiting:
            waiting.remove(task.key)
            return None
        met = known(task.key) or episode.task(task.key) is not None
        return refusals.get(RUN_REASONS[0] if met else RUN_REASONS[1])

    return refused


def is_given(turn: Turn) -> bool:
    """Whether this turn set a task that no role proposed."""
    return turn.parent is None and turn.author == ENVIRONMENT


def offered(turn: Turn) -> bool:
    """Whether a trainer put this turn beside the played ones: nobody sampled it, and no role's parser read it."""
    return turn.engine == DEMONSTRATION and turn.parsed is None and not turn.seed
