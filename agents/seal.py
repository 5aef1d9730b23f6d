"""A word known to one call alone: what a judge says counts only inside tags of that name, so repeating is no verdict.

A prompt that reads ``{{ nonce }}`` is sealed. The word follows from the turn's place, so a replay finds the same one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from sparring.envs.types import Parsed

NONCE = "nonce"
BROKEN = "nothing stands in tags of this call's word"


def word(seed: int) -> str:
    """The word of the call with this seed: a letter and 16 hexadecimal digits, which no text made before it can hold.

    >>> word(255)
    'w00000000000000ff'
    """
    return f"w{seed & 0xFFFF_FFFF_FFFF_FFFF:016x}"


def sealed(text: str, nonce: str) -> str:
    """``text`` as a judge that was told ``nonce`` would say it."""
    return f"<{nonce}>{text}</{nonce}>"


def inside(text: str, nonce: str) -> Iterator[str]:
    """What stands in closed tags of this name after the thoughts at the beginning, the last one first.

    >>> list(inside("1 <w>2</w> 3 <w>4</w> <w>5", "w"))
    ['4', '2']
    """
    head, thought, after = text.partition("</think>")  # a later one may be the candidate's, quoted
    rest = after if thought and (text.lstrip().startswith("<think>") or "<think>" not in head) else text
    while True:
        rest, closed, _ = rest.rpartition(f"</{nonce}>")
        rest, opened, found = rest.rpartition(f"<{nonce}>")
        if not closed or not opened:
            return
        yield found


def broken(silence: Parsed) -> Parsed:
    """What an answer outside its tags means: what silence means to the role, and why."""
    return replace(silence, value=None if silence.ok else silence.value, problem=BROKEN)
