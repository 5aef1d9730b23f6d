"""One recorded episode while it grows: which turn a request goes on from, token by token, and where its answer belongs.

A client sends a conversation as text, whole, every time. Where it begins with one that was recorded here, and what the
model said in it, the recorded tokens are its prompt; nothing the model said is ever tokenised again.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sparring.agents.book import Book
from sparring.agents.engine import Completion, Message, Renderer
from sparring.agents.stage import MAX_TURNS, clean
from sparring.envs.types import Ending, Episode, Score, Segment, Task, Turn

from .refusals import Refusal

BY = "client"  # who judged, in scores that came over the wire
Scores = Mapping[str, float | None]


@dataclass(frozen=True)
class Heard:
    """What a turn is asked for with: ``prompt_ids`` end in ``context``, which is what it newly reads.

    ``follows`` is the recorded turn it goes on from, ``parent`` the one it stands under in the tree, and ``sample`` how
    many were drawn from the same prompt before. ``forked``: it tells of things the model said that no turn explains.
    """

    role: str
    messages: tuple[Message, ...]
    prompt_ids: tuple[int, ...]
    context: Segment
    follows: int | None
    parent: int | None
    sample: int
    forked: bool


@dataclass(kw_only=True)
class Recorded:
    """An episode that a client plays. ``role`` speaks where a request names none; ``busy`` turns are being sampled.

    ``forks`` counts requests whose history no recorded turn explains: they began a context of their own.
    """

    key: str = field(repr=False)
    role: str
    index: int
    pick: int
    parameters: Mapping[str, Any]
    task: Task | None = None
    seed: int = 0
    forks: int = 0
    busy: int = 0
    asked: int = 0
    ended: bool = False
    error: str = ""
    began: float = field(default_factory=time.monotonic)
    replies: dict[int, str] = field(default_factory=dict)  # by turn: what the client was told it said
    reads: dict[int, Heard] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """An empty book."""
        tasks = {} if self.task is None else {self.task.key: self.task}
        self.book = Book(self.index, self.pick, dict(self.parameters), tasks=tasks)

    def hear(self, role: str, messages: Sequence[Message], renderer: Renderer) -> Heard:
        """Where a request belongs, and the tokens the engine is to go on from. Raises ``Refusal``."""
        if self.ended:
            raise Refusal(409, "this episode has ended; open another with POST /episodes")
        if len(self.book.turns) + self.busy >= MAX_TURNS:
            raise Refusal(400, f"an episode has at most {MAX_TURNS} turns; end it and open another")
        whole = tuple(messages)
        follows = self._begun(role, whole)
        before: tuple[int, ...] = ()
        if follows is None:
            context = renderer.open(whole)
        else:
            earlier = self.book.turn(follows)
            context = renderer.extend(earlier.finish, whole[len(self.reads[follows].messages) + 1 :])
            before = self.book.prompt_ids(follows)
        twins = [turn for turn, heard in self.reads.items() if (heard.role, heard.messages) == (role, whole)]
        forked = follows is None and not twins and any(message.role == "assistant" for message in whole)
        parent = self.reads[twins[0]].parent if twins else self._parent(role, follows)
        return Heard(role, whole, before + context.token_ids, context, follows, parent, len(twins), forked)

    def say(self, heard: Heard, done: Completion, reply: str, seed: int, renderer: Renderer, sample: int = 0) -> int:
        """Write what was sampled as a turn; its index. ``reply`` is what the client reads of it.

        ``sample`` is its number among those that were asked for at once.
        """
        index = self.book.reserve(1)
        said = clean(renderer.decode(done.token_ids) if done.text is None else done.text)
        turn = Turn(
            index, heard.parent, heard.role, heard.role, said, heard.sample + sample, heard.follows, heard.context,
            token_ids=tuple(done.token_ids), logprobs=tuple(done.logprobs), finish=done.finish,
            policy_version=done.policy_version, engine=done.engine, seed=seed, spans=tuple(done.spans),
            task=None if self.task is None else self.task.key,
        )  # fmt: skip
        self.book.write(turn)
        self.replies[index], self.reads[index] = reply, heard
        return index

    def end(self, scores: Scores | Sequence[Scores | None], error: str = "") -> None:
        """Give the turns their scores. A mapping is the last turn's; a list has one for each, or null.

        A number is a score, null says that the judge failed. ``error`` says that the episode broke. Raises ``Refusal``.
        """
        if self.busy:
            raise Refusal(409, f"{self.busy} turns of this episode are being sampled; end it when they are there")
        turns = len(self.book.turns)
        if isinstance(scores, Mapping):
            if scores and not turns:
                raise Refusal(400, "scores: the episode has no turn to score", "scores")
            scores = [*[None] * (turns - 1), scores] if turns else []
        if scores and len(scores) != turns:
            raise Refusal(400, f"scores: {len(scores)} are given and the episode has {turns} turns", "scores")
        for index, given in enumerate(scores):
            self.book.give(index, [_score(name, value) for name, value in (given or {}).items()])
        self.ended, self.error = True, error

    def frozen(self, lost: str = "") -> Episode:
        """The episode as it is stored: broken where the client said so, or where it never ended (``lost`` says why)."""
        error = self.error or ("" if self.ended else lost)
        return self.book.freeze(Ending.BROKE if error else Ending.DONE, error, time.monotonic() - self.began)

    def _begun(self, role: str, messages: tuple[Message, ...]) -> int | None:
        """The newest turn of ``role`` that the messages go on from with nothing else the model is said to have said."""
        for index in reversed(range(len(self.book.turns))):
            heard = self.reads[index]
            count = len(heard.messages)
            if heard.role != role or messages[:count] != heard.messages or len(messages) <= count:
                continue
            spoken, news = messages[count], messages[count + 1 :]
            if spoken.role != "assistant" or any(message.role == "assistant" for message in news):
                continue
            if spoken.content.strip() == self.replies[index].strip():  # clients trim what they keep
                return index
        return None

    def _parent(self, role: str, follows: int | None) -> int | None:
        """The newest turn, or the newest under ``follows`` with no other turn of ``role`` between them."""
        if follows is None:
            return len(self.book.turns) - 1 if self.book.turns else None
        for index in reversed(range(follows, len(self.book.turns))):
            path = [turn for turn in self.book.path(index) if turn.index >= follows]
            if path[-1].index == follows and not any(turn.author == role for turn in path[:-1]):
                return index
        return follows


def _score(name: str, value: float | None) -> Score:
    if value is None:
        return Score.invalid(name, BY, "the client gave no number")
    return Score.valued(name, value, BY)
