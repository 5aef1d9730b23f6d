"""What was said, cut into pieces: at tokens, so that each can be shaded, and at the passages that verdicts quote."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from .spelling import Spelt

LEVELS = 4
CHANCES = (0.9, 0.5, 0.2, 0.05)  # a token's probability: from each on it is shaded one level less


@dataclass(frozen=True, slots=True)
class Piece:
    """Text that is shaded alike: a token, or a whole turn. ``shade`` is a style class; ``aside``: no part of what was
    said, such as the end of a message."""

    text: str
    shade: str
    token: int | None = None
    logprob: float | None = None
    advantage: float | None = None
    aside: bool = False


@dataclass(frozen=True, slots=True)
class Passage:
    """Pieces that the same verdicts quote. ``quotes`` number them, ``ends`` those that end here, ``anchor`` is the
    passage's number in the turn, ``None`` where nobody quotes it."""

    pieces: tuple[Piece, ...]
    quotes: tuple[int, ...] = ()
    ends: tuple[int, ...] = ()
    anchor: int | None = None


@dataclass(frozen=True, slots=True)
class Quoted:
    """Where a quote stands in what was said."""

    start: int
    end: int


def quoted(said: str, quotes: Sequence[str]) -> list[Quoted | None]:
    """Where each quote stands, ``None`` for one that is not there (a rule's remark, say).

    >>> quoted("a b", ["b", "c", ""])
    [Quoted(start=2, end=3), None, None]
    """
    # the last place it stands: what is judged is most often the answer, which comes after the thinking
    found = [said.rfind(quote.strip()) if quote.strip() else -1 for quote in quotes]
    return [Quoted(at, at + len(quote.strip())) if at >= 0 else None for at, quote in zip(found, quotes, strict=True)]


def by_advantage(value: float | None, scale: float) -> str:
    """The style class of an advantage: ``up-1`` to ``up-4``, ``down-1`` to ``down-4``.

    >>> by_advantage(0.9, 1.0), by_advantage(-0.1, 1.0), by_advantage(0.0, 1.0), by_advantage(None, 1.0)
    ('up-4', 'down-1', 'level', '')
    """
    if value is None or not math.isfinite(value):
        return ""
    if value == 0 or scale <= 0:
        return "level"
    level = min(LEVELS, math.ceil(abs(value) / scale * LEVELS))
    return f"{'up' if value > 0 else 'down'}-{max(1, level)}"


def by_logprob(value: float | None) -> str:
    """The style class of a log-prob: ``odd-0`` where the token was nearly sure, to ``odd-4`` where it was a surprise.

    >>> by_logprob(0.0), by_logprob(-1.0), by_logprob(-9.0)
    ('odd-0', 'odd-2', 'odd-4')
    """
    if value is None or not math.isfinite(value):
        return ""
    return f"odd-{sum(math.exp(min(value, 0.0)) < chance for chance in CHANCES)}"


def whole(said: str, places: Sequence[Quoted | None], shade: str, advantage: float | None) -> list[Passage]:
    """A turn whose tokens have no text of their own: shaded as one."""
    edges = _edges(len(said), places)
    cuts = [(Piece(said[a:b], shade, advantage=advantage), a, b) for a, b in pairwise(edges)]
    return _passages(cuts, places)


def tokenwise(
    spelt: Spelt,
    token_ids: Sequence[int],
    logprobs: Sequence[float],
    advantages: Sequence[float] | None,
    places: Sequence[Quoted | None],
    shades: Sequence[str],
) -> list[Passage]:
    """A turn token by token; a token that a quote cuts is two pieces."""
    edges = _edges(spelt.end - spelt.start, places)
    cuts: list[tuple[Piece, int, int]] = []
    at = -spelt.start
    for index, text in enumerate(spelt.texts):
        end = at + len(text)
        inner = sorted({at, end, *(edge for edge in edges if at < edge < end)})
        for a, b in pairwise(inner) if len(inner) > 1 else [(at, at)]:
            piece = Piece(
                text=text[a - at : b - at],
                shade=shades[index],
                token=token_ids[index],
                logprob=logprobs[index],
                advantage=None if advantages is None else advantages[index],
                aside=a < 0 or a >= spelt.end - spelt.start,
            )
            cuts.append((piece, a, b))
        at = end
    return _passages(cuts, places)


def _edges(length: int, places: Sequence[Quoted | None]) -> list[int]:
    return sorted({0, length, *(edge for place in places if place for edge in (place.start, place.end))})


def _passages(cuts: Sequence[tuple[Piece, int, int]], places: Sequence[Quoted | None]) -> list[Passage]:
    """Neighbours that the same quotes cover, together."""
    known = [(number, place) for number, place in enumerate(places) if place is not None]

    def covered(a: int, b: int) -> tuple[int, ...]:
        return tuple(number for number, place in known if place.start <= a and max(b, a + 1) <= place.end)

    return list(_grouped([(piece, covered(a, b), b) for piece, a, b in cuts], dict(known)))


def _grouped(cuts: Sequence[tuple[Piece, tuple[int, ...], int]], known: dict[int, Quoted]) -> Iterator[Passage]:
    held: list[Piece] = []
    anchors = 0
    for index, (piece, quotes, end) in enumerate(cuts):
        held.append(piece)
        following = cuts[index + 1][1] if index + 1 < len(cuts) else None
        if following == quotes:
            continue
        ends = tuple(number for number in quotes if known[number].end == end)
        yield Passage(tuple(held), quotes, ends, anchors if quotes else None)
        anchors += bool(quotes)
        held = []
