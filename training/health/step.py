"""All health figures of one step: pure functions of its episodes and of what was learnt from them."""

from __future__ import annotations

from . import gaming, learning, pay, words
from .figures import Found, Seen


def figures(seen: Seen) -> Found:
    """Every figure there is something to take from, by name (``entropy/solver``)."""
    paid = pay.paid(seen)
    return {
        **words.figures(seen),
        **words.unpaid(seen, paid),
        **pay.figures(paid),
        **gaming.figures(seen, paid),
        **learning.figures(seen),
    }
