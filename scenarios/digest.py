"""A content hash for plain JSON data: what makes two resolved scenarios the same scenario."""

from __future__ import annotations

import hashlib
import json


def digest(value: object) -> str:
    """16 hex characters of the SHA-256 of ``value`` as canonical JSON (sorted keys, no spaces)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
