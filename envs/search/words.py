"""Words of a text, as BM25 counts them: lower case, identifiers whole and in parts. No stemming, no stop words."""

from __future__ import annotations

import re

LONGEST_QUERY = 2000  # characters of a query that are read; what comes after is not there
_WORD = re.compile(r"[^\W_]+(?:_+[^\W_]+)*")
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def words(text: str) -> list[str]:
    """Words in order; ``snake_case`` and ``CamelCase`` count as a whole and as their parts.

    >>> words("json.dump_all(OrderedDict)")
    ['json', 'dump_all', 'dump', 'all', 'ordereddict', 'ordered', 'dict']
    """
    found: list[str] = []
    for match in _WORD.finditer(text):
        whole = match[0]
        found.append(whole.lower())
        parts = [part for piece in whole.split("_") if piece for part in _HUMP.split(piece)]
        if len(parts) > 1:
            found += [part.lower() for part in parts]
    return found


def query_words(query: str) -> list[str]:
    """The words of a query, each once, of its first ``LONGEST_QUERY`` characters."""
    return list(dict.fromkeys(words(query[:LONGEST_QUERY])))
