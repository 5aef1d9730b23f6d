"""All health figures of one step: pure functions of its episodes and of what was learnt from them."""

from __future__ import annotations

from . import gaming, learning, words
from .figures import Found, Seen


def figures(seen: Seen) -> Found:
    """Every figure there is something to take from, by name (``entropy/solver``)."""
    return {**words.figures(seen), **gaming.figures(seen), **learning.figures(seen)}
