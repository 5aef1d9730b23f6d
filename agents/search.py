"""Tree search over the turns of an episode: which turn is expanded next, from the outcomes found so far.

A node with ``do: select`` says nothing: it sends turns that are in the book already on along its edges. How they are
expanded is up to the nodes behind it; branches continue where the environment stood (``stage.py``).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from sparring.envs.types import Turn, Validity
from sparring.scenarios.schema import NodeSpec, SearchSpec

from .book import ENVIRONMENT, Book
from .conditions import VERIFIER, verdict_of
from .stage import Runtime
from .world import Standing


@dataclass
class Branch:
    """One turn of a search tree: ``own`` is what it is worth by itself, ``open`` whether it may be expanded."""

    index: int
    depth: int = 0
    own: float | None = None
    open: bool = False
    below: list[Branch] = field(default_factory=list)

    def walk(self) -> Iterator[Branch]:
        """This branch and all below, each before what is below it."""
        yield self
        for branch in self.below:
            yield from branch.walk()

    @property
    def values(self) -> list[float]:
        """What was found below; what it is worth by itself while nothing was. Their number is the visit count N."""
        found = [value for branch in self.below for value in branch.values]
        return found or ([] if self.own is None else [self.own])

    @property
    def q(self) -> float | None:
        """The mean of what was found, ``None`` before anything was."""
        values = self.values
        return fmean(values) if values else None

    @property
    def hopeful(self) -> bool:
        """Whether anything here can still be expanded."""
        return any(branch.open for branch in self.walk())


def upper_bound(branch: Branch, visits: int, explore: float) -> float:
    """Q + explore sqrt(ln visits / N), ``visits`` being those of the branch above; infinite before the first visit.

    Source: UCT, Kocsis and Szepesvari, Bandit based Monte-Carlo planning, 2006.

    >>> round(upper_bound(Branch(1, own=0.5), 4, 1.0), 4)
    1.6774
    """
    values = branch.values
    return fmean(values) + explore * math.sqrt(math.log(visits) / len(values)) if values else math.inf


def choose(root: Branch, spec: SearchSpec) -> int | None:
    """The turn to expand next, ``None`` when nothing is left; of equals the one that was made first."""
    waiting = [branch for branch in root.walk() if branch.open]
    if not waiting:
        return None
    if spec.policy == "breadth":
        return min(waiting, key=lambda branch: (branch.depth, branch.index)).index
    if spec.policy == "best_first":
        hoped = dict(_hoped(root, None))
        return min(waiting, key=lambda branch: (-hoped[branch.index], -branch.depth, branch.index)).index
    at = root
    while not at.open:
        visits = len(at.values)
        ways = [branch for branch in at.below if branch.hopeful]
        at = min(ways, key=lambda branch: (-upper_bound(branch, visits, spec.explore), branch.index))
    return at.index


def _hoped(branch: Branch, above: float | None) -> Iterator[tuple[int, float]]:
    """By turn: its Q, or that of the nearest branch above that has one; what nobody knows comes first."""
    known = branch.q if branch.q is not None else above
    yield branch.index, math.inf if known is None else known
    for one in branch.below:
        yield from _hoped(one, known)


async def select(runtime: Runtime, name: str, node: NodeSpec, waiting: Sequence[int | None]) -> list[Turn]:
    """One visit of a ``select`` node: for every tree with news one turn that is expanded next, within the budget.

    The expansion of the task itself counts as the first, whether it comes before this node or is sent on by it.
    """
    book = runtime.book
    spec = node.search or SearchSpec()
    fresh: dict[int, list[int]] = {}
    for index in waiting:
        if index is not None:
            fresh.setdefault(origin(book, index), []).append(index)
    sent = []
    for root, news in fresh.items():
        reached = book.reached.setdefault((name, root), {})
        for index in news:
            reached.setdefault(index, False)  # one that comes again was sent on already
        spent = sum(reached.values()) + (root not in reached)
        if spent < spec.simulations:
            chosen = choose(tree(book, root, reached, spec), spec)
            if chosen is not None:
                reached[chosen] = True
                sent.append(book.turn(chosen))
    return sent


def origin(book: Book, index: int) -> int:
    """The turn that set the task in force, the root of its search."""
    top = index
    for turn in book.path(index):
        if turn.task != book.turn(index).task:
            break
        top = turn.index
    return top


def tree(book: Book, root: int, reached: Mapping[int, bool], spec: SearchSpec) -> Branch:
    """The search tree below ``root``: turns that reached the node, with whether each was sent on."""
    branches = {root: Branch(root)}
    heard: dict[tuple[int, str], list[object]] = {}
    for index, spent in sorted(reached.items()):
        if index == root:  # an edge from where the task is set: nothing was said below it yet
            branches[root].open = not spent and root not in book.over
            continue
        path = list(book.path(index))
        above = branches[next(turn.index for turn in path[1:] if turn.index in branches)]
        newest = next((turn for turn in path if turn.author == ENVIRONMENT), None)
        standing = None if newest is None else book.states.get(newest.index)
        like = heard.setdefault((above.index, newest.said if newest is not None else ""), [])
        again = any(_same(standing, other) for other in like)  # expanding where it stands the same tells nothing new
        like.append(standing)
        depth = above.depth + 1
        room = spec.depth is None or depth < spec.depth
        going = not spent and not again and room and index not in book.over
        branches[index] = Branch(index, depth, _own(book, book.turn(index), spec), going)
        above.below.append(branches[index])
    return branches[root]


def _same(one: object, other: object) -> bool:
    """Whether the environment, which says the same, stands the same; its words are all there is without snapshots."""
    left, right = (there.snapshot if isinstance(there, Standing) else None for there in (one, other))
    try:
        return bool(left == right)
    except Exception:  # a plug-in's state may be anything: an array says what is equal in it, not whether all is
        return True


def _own(book: Book, turn: Turn, spec: SearchSpec) -> float | None:
    """The verifier's score of the turn, else its score called ``leaf``, or what a judge said of it."""
    for name in (VERIFIER, spec.leaf):
        score = book.score(turn, name) if name is not None else None
        if score is not None and score.validity is Validity.VALUED:
            return score.value
    verdict = verdict_of(turn) if spec.leaf == "verdict" else None
    return None if verdict is None else float(verdict)
