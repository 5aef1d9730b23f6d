"""Reading what somebody said: thoughts, tags, cut texts, words that occur. Nothing here raises, whatever the text."""

from __future__ import annotations

import re
from dataclasses import dataclass

SILENCE = "(says nothing)"
CUT = " [cut]"
LONGEST = 1 << 16  # characters of one turn that are read at all
_WORD = re.compile(r"[^\W_]+")


@dataclass(frozen=True, slots=True)
class Words:
    """One turn's words without thoughts: ``text`` to be judged, ``carried`` what the other side hears of it."""

    text: str
    carried: str

    @property
    def silent(self) -> bool:
        """Whether nothing was said."""
        return self.carried == SILENCE


def read(action: str, max_chars: int) -> Words:
    """What ``action`` says aloud: what follows the last thought, and nothing of a thought that is not closed.

    >>> read("<think>hm</think> Who? ", 80)
    Words(text='Who?', carried='Who?')
    """
    said = action[-LONGEST:].rpartition("</think>")[2].partition("<think>")[0].strip()
    carried = said if len(said) <= max_chars else said[:max_chars] + CUT
    return Words(said, carried or SILENCE)


def tagged(text: str, tag: str) -> str | None:
    """What stands in the last ``<tag>...</tag>``, stripped; ``None`` when it is absent or not closed."""
    _, opened, rest = text.rpartition(f"<{tag}>")
    inside, closed, _ = rest.partition(f"</{tag}>")
    return inside.strip() if opened and closed else None


def words(text: str) -> list[str]:
    """The words of ``text``, in lower case, without punctuation.

    >>> words("A fox -- THE fox!")
    ['a', 'fox', 'the', 'fox']
    """
    return _WORD.findall(text[:LONGEST].casefold())


def says(text: str, phrase: str) -> bool:
    """Whether the words of ``phrase`` stand in ``text`` one after the other.

    >>> says("It is the Red-Fox.", "red fox"), says("redfox", "red fox")
    (True, False)
    """
    wanted = words(phrase)
    return bool(wanted) and f" {' '.join(wanted)} " in f" {' '.join(words(text))} "


def mentioned(text: str, names: list[str]) -> list[str]:
    """Those of ``names`` that ``text`` says, in the order in which it first does."""
    said = f" {' '.join(words(text))} "
    places = {name: said.find(f" {' '.join(words(name))} ") for name in names if words(name)}
    return sorted((name for name, place in places.items() if place >= 0), key=lambda name: (places[name], name))


def quoted(text: str) -> str:
    """``text`` between two bars that are longer than any in it, so that it cannot end its own quotation."""
    bar = "-" * max(5, 1 + max((len(run) for run in re.findall("-+", text)), default=0))
    return f"{bar}\n{text}\n{bar}"
