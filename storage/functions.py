"""What Sparring's own connections can compute in SQL beyond SQLite's functions. Other programs do not have them."""

from __future__ import annotations

import json
import math
import sqlite3

from sparring.scenarios.errors import StoreError

from .codec import unpack_tokens


def add_functions(connection: sqlite3.Connection) -> None:
    """Register ``sparring_tokens``."""
    connection.create_function("sparring_tokens", 1, _tokens, deterministic=True)


def _tokens(blob: bytes | None) -> str | None:
    """A blob of token ids, log-probs or token advantages as a JSON list, which ``json_each`` takes apart.

    A number that is not finite (an unknown log-prob is NaN) is null. NULL, no tokens, stays NULL. Raises
    ``StoreError``, which SQLite turns into an error of its own, on anything that is no such blob.
    """
    if blob is None:
        return None
    if not isinstance(blob, bytes):
        raise StoreError("sparring_tokens takes a blob")
    return json.dumps([number if math.isfinite(number) else None for number in unpack_tokens(blob)])
