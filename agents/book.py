"""The book of one episode: the tree of turns while it grows. ``freeze`` makes the Episode that is stored and settled.

A place in the tree is reserved before the work for it is awaited, so indices do not depend on who finishes first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sparring.envs.types import Ending, Episode, Refusal, Rubric, Score, Segment, Task, Turn

from .beside import Pair, attempt_above, beside, pair, read, rubrics_read
from .engine import Message
from .outcome import VERIFIER
from .role import RUBRIC, SIBLINGS, Heard, View
from .rubric import lines, make_rubric

ENVIRONMENT = "environment"


@dataclass
class Book:
    """One growing episode. ``states`` holds environment snapshots by environment turn; ``over`` the turns after which
    the environment takes no more actions, ``seats`` the roles that hear each other only through the environment,
    ``heard`` what a role newly read before it spoke, as messages, ``failures`` why an environment or an engine could
    not make a turn, ``reached`` the turns of a search, by its node and the turn it is below, with whether each was sent
    on. ``seed`` is the key of the task that proposals of this episode are about."""

    index: int = 0
    pick: int = 0
    parameters: Mapping[str, Any] = field(default_factory=dict)
    seed: str | None = None
    turns: list[Turn | None] = field(default_factory=list)
    tasks: dict[str, Task] = field(default_factory=dict)
    scores: dict[int, tuple[Score, ...]] = field(default_factory=dict)
    rubrics: dict[int, Rubric] = field(default_factory=dict)
    refusals: dict[int, Refusal] = field(default_factory=dict)
    states: dict[int, object] = field(default_factory=dict)
    over: set[int] = field(default_factory=set)
    seats: frozenset[str] = frozenset()
    failures: dict[int, str] = field(default_factory=dict)
    heard: dict[int, tuple[Message, ...]] = field(default_factory=dict)
    reached: dict[tuple[str, int], dict[int, bool]] = field(default_factory=dict)
    note: str = ""

    def reserve(self, count: int) -> int:
        """Make room for ``count`` turns and return the first index."""
        first = len(self.turns)
        self.turns.extend([None] * count)
        return first

    def write(self, turn: Turn) -> Turn:
        """Put ``turn`` in the place reserved for its index, or at the end, with the rubric it holds, if any."""
        if turn.parsed is not None and (rubric := make_rubric(turn.parsed, turn.index, turn.author)) is not None:
            self.rubrics[turn.index] = rubric
        if turn.index == len(self.turns):
            self.turns.append(turn)
        else:
            self.turns[turn.index] = turn
        return turn

    def turn(self, index: int) -> Turn:
        """The turn with this index; ``LookupError`` while it is only reserved."""
        found = self.turns[index]
        if found is None:
            raise LookupError(f"turn {index} is reserved but not made yet")
        return found

    def path(self, index: int | None) -> Iterator[Turn]:
        """The turn itself, its parent, and so on up to the root."""
        while index is not None:
            turn = self.turn(index)
            yield turn
            index = turn.parent

    def depth(self, index: int | None) -> int:
        """How many turns stand on the branch that ends here."""
        return sum(1 for _ in self.path(index))

    def task(self, index: int | None) -> Task | None:
        """The task in force on this branch, ``None`` before one was set."""
        key = None if index is None else self.turn(index).task
        return None if key is None else self.tasks[key]

    def spoken(self, turn: Turn) -> Turn:
        """The turn, or the role's turn an environment turn answers."""
        if turn.author == ENVIRONMENT and turn.parent is not None:
            return self.turn(turn.parent)
        return turn

    def give(self, index: int | None, scores: Sequence[Score]) -> None:
        """Add scores to a turn's; nobody's (``None``) are dropped."""
        if index is not None:
            self.scores[index] = (*self.scores.get(index, ()), *scores)

    def newest(self, author: str, index: int) -> int | None:
        """The last turn of ``author`` on the branch that ends here; ``None`` while it has not spoken."""
        return next((turn.index for turn in self.path(index) if turn.author == author), None)

    def score(self, turn: Turn, name: str) -> Score | None:
        """The score of this name on the turn or, for an environment turn, on the turn it answers."""
        return next((score for score in self.scores.get(self.spoken(turn).index, ()) if score.name == name), None)

    def last_words(self, index: int | None) -> str:
        """What a role said last on the branch that ends here; nothing before one has spoken."""
        return next((turn.said for turn in self.path(index) if turn.author != ENVIRONMENT), "")

    def prompt_ids(self, follows: int | None) -> tuple[int, ...]:
        """The tokens of a conversation so far: contexts and samples along the ``follows`` chain, oldest first."""
        parts: list[tuple[int, ...]] = []
        while follows is not None:
            turn = self.turn(follows)
            parts += [turn.token_ids, turn.context.token_ids if turn.context else ()]
            follows = turn.follows
        return tuple(token for part in reversed(parts) for token in part)

    def trained_prompt(self, index: int) -> Segment:
        """All that the update reads before this turn: its ``train_context``, else the role's conversation so far."""
        turn = self.turn(index)
        heard = [turn.train_context or turn.context]
        while turn.train_context is None and turn.follows is not None:
            turn = self.turn(turn.follows)
            heard += [Segment(turn.said, turn.token_ids), turn.train_context or turn.context]
        found = [one for one in reversed(heard) if one is not None]
        ids = tuple(token for one in found for token in one.token_ids)
        return Segment("".join(one.text for one in found), ids)

    def messages(self, follows: int | None) -> tuple[Message, ...]:
        """The same conversation as messages: what was read and what was said, oldest first."""
        parts: list[tuple[Message, ...]] = []
        while follows is not None:
            turn = self.turn(follows)
            parts += [(Message("assistant", turn.said),), self.heard.get(follows, ())]
            follows = turn.follows
        return tuple(message for part in reversed(parts) for message in part)

    def view(self, name: str, parent: int | None, sees: Sequence[str] = ()) -> View:
        """What lies before role ``name`` after turn ``parent``.

        The words of a rubric writer are not part of the conversation: only roles that see rubrics read them. A role
        that holds a seat reads neither what is addressed to another seat nor what another seat said.
        """
        private = self.seats - {name} if name in self.seats else frozenset()
        said: dict[str, str] = {}
        heard: list[Heard] = []
        spoke = False
        for turn in self.path(parent):
            spoke = spoke or turn.author == name
            if RUBRIC not in sees and turn.parsed is not None and turn.parsed.kind == RUBRIC:
                continue
            if turn.author in private or turn.addressee in private:
                continue
            said.setdefault(turn.author, turn.said)
            if not spoke:
                heard.append(Heard(turn.author, turn.said))
        last = heard[0].text if heard else ""
        task = self.task(parent)
        criteria = lines(self.rubrics_before(task, parent)) if RUBRIC in sees else ()
        view = View(task, self.parameters, said, last, heard[::-1], criteria)
        return self._among(view, parent) if SIBLINGS in sees else view

    def _among(self, view: View, parent: int | None) -> View:
        """The view with the attempt the role stands below, and those beside it."""
        mine = attempt_above(self.turns, parent, self._verdict)
        if mine is None:
            return view
        near = beside(self.turns, mine, len(self.turns), self._verdict)
        others, two = [read(self.turns, turn, self._verdict) for turn in near], self.pair(parent)
        sides = None if two is None else {k: read(self.turns, t, self._verdict) for k, t in two._asdict().items()}
        return replace(view, attempt=read(self.turns, mine, self._verdict), siblings=others, pair=sides)

    def pair(self, index: int | None) -> Pair | None:
        """The attempt at or above this turn and one beside it of the other outcome (see ``beside.pair``)."""
        mine = attempt_above(self.turns, index, self._verdict)
        return None if mine is None else pair(self.turns, mine, len(self.turns), self._verdict)

    def _verdict(self, index: int) -> Score | None:
        return next((score for score in self.scores.get(index, ()) if score.name == VERIFIER), None)

    def rubrics_before(self, task: Task | None, parent: int | None) -> list[Rubric]:
        """Rubrics for ``task`` that a role after turn ``parent`` reads (see ``beside.rubrics_read``)."""
        return rubrics_read(self.turns, self.rubrics, None if task is None else task.key, parent)

    def freeze(self, ending: Ending | None = None, error: str = "", seconds: float = 0.0) -> Episode:
        """The finished episode. Reserved places that were never filled (a broken episode) are closed up.

        What was noted of such a place beforehand (how much help it was to be shown) goes with it.
        """
        if ending is None:
            ending = Ending.REFUSED if self.refusals and not {*self.tasks} - {self.seed} else Ending.DONE
        made = [turn for turn in self.turns if turn is not None]
        place = {turn.index: index for index, turn in enumerate(made)}
        return Episode(
            self.index,
            self.pick,
            dict(self.parameters),
            tuple(_moved(turn, place) for turn in made),
            tuple(self.tasks.values()),
            {place[index]: scores for index, scores in self.scores.items() if index in place},
            {place[i]: rubric if i == place[i] else _rewritten(rubric, place[i]) for i, rubric in self.rubrics.items()},
            {place[index]: refusal for index, refusal in self.refusals.items()},
            ending,
            error or self.note,
            seconds,
        )


def _moved(turn: Turn, place: Mapping[int, int]) -> Turn:
    if place[turn.index] == turn.index:
        return turn  # nothing before it is missing, so its parent has not moved either
    parent = None if turn.parent is None else place[turn.parent]
    follows = None if turn.follows is None else place[turn.follows]
    return turn.amended(index=place[turn.index], parent=parent, follows=follows)


def _rewritten(rubric: Rubric, author: int) -> Rubric:
    return Rubric(rubric.criteria, author, rubric.version, rubric.provenance)
