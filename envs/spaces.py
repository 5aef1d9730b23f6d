"""The space of text: every ``str`` is a member, whatever its length or characters."""

from __future__ import annotations

from typing import Any

import gymnasium

_ALPHABET = "abcxyz019 \n\t<>/`'\"\\{}é字🙂\u200b\x00\ud800"


class Unicode(gymnasium.Space[str]):
    """Any text, the empty one and lone surrogates included: model output and observations are not constrained."""

    def __init__(self, seed: int | None = None) -> None:
        """``seed`` seeds ``sample``."""
        super().__init__(shape=None, dtype=None, seed=seed)

    @property
    def is_np_flattenable(self) -> bool:
        """Text has no fixed-size array form."""
        return False

    def sample(self, mask: Any = None, probability: Any = None) -> str:
        """0 to 31 characters of a mixed alphabet; masks make no sense here and are refused."""
        if mask is not None or probability is not None:
            raise ValueError("Unicode.sample takes no mask or probability: text has no finite set of choices")
        size = int(self.np_random.integers(32))
        return "".join(_ALPHABET[int(self.np_random.integers(len(_ALPHABET)))] for _ in range(size))

    def contains(self, x: Any) -> bool:
        """Whether ``x`` is text."""
        return isinstance(x, str)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Unicode)

    def __hash__(self) -> int:
        return hash(Unicode)

    def __repr__(self) -> str:
        return "Unicode()"
