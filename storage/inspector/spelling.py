"""The words of single tokens. The database has token ids; the tokenizer lies beside a checkpoint or the policy."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from sqlalchemy import select

from sparring.storage.store import Store, run_number
from sparring.storage.tables import Checkpoints, Runs, Scenarios, Steps

FILE = "tokenizer.json"
NEWEST = 4  # checkpoints looked at
HALF = "\ufffd"  # what half a character is decoded to
Decode = Callable[[Sequence[int], bool], str]


@dataclass(frozen=True, slots=True)
class Speller:
    """``decode(ids, skip_special)``, or ``why`` there is none."""

    decode: Decode | None
    why: str = ""


@dataclass(frozen=True, slots=True)
class Spelt:
    """The text of each token, and where in it the turn's own words begin and end."""

    texts: tuple[str, ...]
    start: int
    end: int


def speller(store: Store, run: str) -> Speller:
    """How to spell the tokens of a run: by a checkpoint of it that is still there, else by its model's folder."""
    for folder in _folders(store, run):
        file = folder / FILE
        if file.is_file():
            return _loaded(str(file), file.stat().st_mtime_ns)
    return Speller(None, f"no {FILE} lies in a checkpoint of this run or in its model's folder")


def _folders(store: Store, run: str) -> list[Path]:
    number = run_number(run)
    wanted = select(Checkpoints.path).join(Steps, Steps.id == Checkpoints.step_id).where(Steps.run_id == number)
    resolved = select(Scenarios.resolved).join(Runs, Runs.scenario_id == Scenarios.id).where(Runs.id == number)
    with store.read() as session:
        kept = list(session.scalars(wanted.order_by(Steps.number.desc()).limit(NEWEST)))
        scenario: Any = session.scalars(resolved).one_or_none()
    beside = store.path.parent if store.path is not None else Path()
    return [*(beside / path for path in kept), *_of_model(scenario)]


def _of_model(scenario: Any) -> list[Path]:
    """The folder of ``policy.model``, from beside the scenario or from the hub's cache on this machine."""
    policy = scenario.get("policy") if isinstance(scenario, Mapping) else None
    model = policy.get("model") if isinstance(policy, Mapping) else None
    if not isinstance(model, str) or not model or model.startswith("builtin:") or "\x00" in model:
        return []
    home = Path(os.environ.get("HF_HOME") or "~/.cache/huggingface").expanduser()
    cached = Path(os.environ.get("HF_HUB_CACHE") or home / "hub") / f"models--{model.replace('/', '--')}" / "snapshots"
    source = scenario.get("source")
    base = Path(source).parent if isinstance(source, str) else Path()
    newest = sorted(cached.glob("*"), key=lambda path: path.stat().st_mtime, reverse=True) if cached.is_dir() else []
    return [(base / model).expanduser(), *newest]


@lru_cache(maxsize=4)
def _loaded(file: str, _changed: int) -> Speller:
    try:
        from tokenizers import Tokenizer
    except ImportError:
        return Speller(None, "the package tokenizers is not installed: pip install tokenizers")
    try:
        tokenizer = Tokenizer.from_file(file)
    except Exception as error:  # tokenizers raises bare Exception for whatever the file lacks
        return Speller(None, f"{file} cannot be read: {error}")

    def decode(ids: Sequence[int], skip: bool) -> str:
        text: str = tokenizer.decode(list(ids), skip_special_tokens=skip)
        return text

    return Speller(decode)


def spelt(said: str, token_ids: Sequence[int], decode: Decode) -> Spelt | None:
    """What each token stands for; ``None`` where the tokens do not spell what was said.

    A token that ends in mid-character has no text, the one that ends the character all of it. Tokens that are no text
    (the end of a message) lie outside ``start`` to ``end``.
    """
    try:
        texts = _texts(token_ids, lambda ids: decode(ids, False))
    except (OverflowError, ValueError):  # an id no tokenizer has
        return None
    whole = "".join(texts)
    start = whole.find(said)
    return Spelt(tuple(texts), start, start + len(said)) if start >= 0 else None


def _texts(ids: Sequence[int], decode: Callable[[Sequence[int]], str]) -> list[str]:
    """One by one, each decoded together with the few before it: a word's blank depends on its neighbour."""
    texts: list[str] = []
    start = read = 0
    for at in range(len(ids)):
        before, now = decode(ids[start:read]), decode(ids[start : at + 1])
        if len(now) > len(before) and not now.endswith(HALF):
            texts.append(now[len(before) :])
            start, read = read, at + 1
        else:
            texts.append("")
    if read < len(ids) and texts:
        texts[-1] = decode(ids[start:])[len(decode(ids[start:read])) :]
    return texts
