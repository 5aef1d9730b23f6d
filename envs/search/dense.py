"""Dense vectors of texts: the door for embedders, one over HTTP, and one by spelling that needs no model.

Another package adds an embedder by an entry point in the group ``sparring.embedder``; its constructor takes a text.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Protocol

import httpx
import numpy as np
import numpy.typing as npt

from sparring.scenarios.errors import EngineError
from sparring.scenarios.registry import embedders

from .words import words

Vectors = npt.NDArray[np.float32]


class Embedder(Protocol):
    """Turns texts into vectors. ``name`` is what an index remembers, so that queries are embedded in the same way."""

    name: str

    def embed(self, texts: Sequence[str]) -> Vectors:
        """One row per text, (texts, dimensions), finite; an index scales rows to length 1."""


def embedder(spec: str) -> Embedder:
    """The embedder that ``spec`` names: ``http(s)://HOST/v1#MODEL`` for a server, ``KIND`` or ``KIND:ARGUMENT``.

    A text of no known kind is a model for the embedder ``transformers``. Raises ``UnknownPart`` without one.
    """
    if spec.startswith(("http://", "https://")):
        return ServerEmbedder(spec)
    kind, _, argument = spec.partition(":")
    if kind in embedders.names():
        made: Embedder = embedders.get(kind)(argument)
        return made
    found: Embedder = embedders.get("transformers")(spec)
    return found


def unit(vectors: npt.ArrayLike, rows: int, name: str) -> Vectors:
    """``vectors`` as float32 rows of length 1 (zero rows stay); raises ``EngineError`` for another shape or NaN."""
    found = np.asarray(vectors, dtype=np.float32)
    if found.ndim != 2 or found.shape[0] != rows or not found.shape[1]:
        raise EngineError(f"embedder {name}: {rows} texts gave an array of shape {found.shape}; one row each is needed")
    if not np.isfinite(found).all():
        raise EngineError(f"embedder {name}: a vector has a number that is not finite; try another model")
    lengths = np.linalg.norm(found, axis=1, keepdims=True)
    scaled: Vectors = (found / np.where(lengths > 0, lengths, 1)).astype(np.float32)
    return scaled


@embedders("spelling")
class Spelling:
    """Hashed character trigrams of the words: near where spelling is near, blind to meaning. Needs no model."""

    def __init__(self, argument: str = "") -> None:
        """``argument``: the number of dimensions, 512 by default."""
        self.size = int(argument or 512)
        self.name = f"spelling:{self.size}"
        self._places: dict[str, tuple[int, float]] = {}

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Signed counts of trigrams, damped by a square root."""
        rows = np.zeros((len(texts), self.size), dtype=np.float32)
        for row, text in zip(rows, texts, strict=True):
            for word in words(text):
                padded = f"^{word}$"
                for at in range(max(1, len(padded) - 2)):
                    place, sign = self._place(padded[at : at + 3])
                    row[place] += sign
        scaled: Vectors = np.sign(rows) * np.sqrt(np.abs(rows))
        return scaled

    def _place(self, gram: str) -> tuple[int, float]:
        held = self._places.get(gram)
        if held is None:
            raw = hashlib.blake2b(gram.encode(), digest_size=8).digest()
            held = int.from_bytes(raw[:7], "little") % self.size, 1.0 if raw[7] & 1 else -1.0
            self._places[gram] = held
        return held


@embedders("openai")
class ServerEmbedder:
    """Any OpenAI-compatible embeddings server: POST ``URL/embeddings`` with ``model`` and ``input``."""

    def __init__(self, argument: str) -> None:
        """``argument``: ``http(s)://HOST/v1#MODEL``."""
        self.url, _, self.model = argument.partition("#")
        if not self.url.startswith(("http://", "https://")) or not self.model:
            raise EngineError(f"embeddings server {argument!r}: write http(s)://HOST/v1#MODEL")
        self.name = argument

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Asks for all ``texts`` in one call; raises ``EngineError`` when the server gives no vectors."""
        body = {"model": self.model, "input": list(texts)}
        try:
            answer = httpx.post(f"{self.url.rstrip('/')}/embeddings", json=body, timeout=60.0)
            answer.raise_for_status()
            rows = sorted(answer.json()["data"], key=lambda row: int(row["index"]))
            return np.asarray([row["embedding"] for row in rows], dtype=np.float32)
        except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
            said = f"{type(error).__name__}: {error}"
            raise EngineError(
                f"embeddings server {self.url}, model {self.model!r}: {said:.200}; does it run?"
            ) from error
