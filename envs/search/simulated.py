"""A role that plays the search engine, useful or noisy by a draw, and the schedule that makes it ever less useful.

Source: ZeroSearch, arXiv 2505.04588.
"""

from __future__ import annotations

from numpy.random import Generator

from .words import LONGEST_QUERY

SOLVER, ENGINE = "solver", "engine"
USEFUL, NOISY = "useful", "noisy"


def noise_at(progress: float, start: float, end: float, base: float = 4.0) -> float:
    """Share of noisy searches at ``progress`` (0 to 1): start + (base^progress - 1) / (base - 1) * (end - start).

    >>> noise_at(0, 0.0, 0.75), round(noise_at(0.5, 0.0, 0.75), 3), noise_at(1, 0.0, 0.75)
    (0.0, 0.25, 0.75)
    """
    done = min(1.0, max(0.0, progress))
    share = done if base == 1 else (base**done - 1) / (base - 1)
    return start + share * (end - start)


class Simulated:
    """The engine's seat in one episode: ``asked`` is the query that waits for an answer, empty when none does."""

    def __init__(self, noise: float = 0.0, asked: str = "", kind: str = USEFUL) -> None:
        self.noise = noise
        self.asked = asked
        self.kind = kind

    def ask(self, query: str, rng: Generator) -> str:
        """Put a query to the engine; what it reads: whether its documents shall be useful or noisy, and the query."""
        self.kind = NOISY if rng.random() < self.noise else USEFUL
        self.asked = query[:LONGEST_QUERY].strip()
        return f"{self.kind}\n{self.asked}"

    def answer(self, words: str) -> str:
        """What the searcher reads of what the engine said."""
        self.asked = ""
        return words.strip() or "no results"

    def oracle(self, question: str, answer: str) -> str:
        """What a good engine says: the fact when it is to be useful, something beside the point when noisy."""
        return f"{question} {answer}" if self.kind == USEFUL else "Nothing here is about that."

    def state(self) -> tuple[float, str, str]:
        """The three numbers and texts that make it."""
        return self.noise, self.asked, self.kind
