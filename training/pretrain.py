"""Makes the built-in model: supervised learning on generated role demonstrations, from random weights, on CPU.

``sparring pretrain`` runs it and writes an ordinary Hugging Face folder with a model card of measured figures.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.random import Generator

from sparring.scenarios.seeds import derive

from .demonstrations import GOOD, Habits, demonstrate
from .engines.render import ChatRenderer
from .tiny import build_model, build_tokenizer, load_model

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Lesson:
    """How long and how fast to teach: ``examples`` demonstrations in all, ``batch`` per update.

    Skills are taught first, without bad habits (``clean`` of the examples); the habits to unlearn come last.
    """

    examples: int = 150_000
    batch: int = 40
    lr: float = 3e-3
    warmup: float = 0.01
    seed: int = 0
    clean: float = 0.85
    habits: Habits = field(default_factory=Habits)

    def habits_at(self, progress: float) -> Habits:
        """The better ways alone for the first ``clean`` share, then the habits."""
        return GOOD if progress < self.clean else self.habits


# What the built-in model was taught, in this order.
LESSONS = (
    Lesson(),
    Lesson(examples=130_000, lr=1.5e-3, seed=1, clean=0.88),
    Lesson(examples=110_000, lr=1.2e-3, seed=2, clean=0.88, habits=Habits(depths=(1, 2, 3, 4, 5, 5))),
)


@dataclass(frozen=True)
class Example:
    """One demonstration as tokens; the last ``spoken`` of them are imitated (all but the first when reading along)."""

    token_ids: list[int]
    spoken: int


def encode(renderer: ChatRenderer, rng: Generator, habits: Habits, whole: bool = False) -> Example:
    """A demonstration rendered exactly as the role graph would render it, with the end-of-turn token.

    ``whole`` imitates what was read too: a prompt that quotes a trace teaches tracing.
    """
    _, messages = demonstrate(rng, habits)
    context = renderer.open(messages[:-1])
    said = renderer.tokenizer(messages[-1].content, add_special_tokens=False).input_ids
    spoken = [*said, renderer.stop_ids[-1]]
    token_ids = [*context.token_ids, *spoken]
    return Example(token_ids, len(token_ids) - 1 if whole else len(spoken))


def batches(renderer: ChatRenderer, lesson: Lesson) -> Iterator[list[Example]]:
    """Batches of like length (little padding) in random order, from the lesson's own generator."""
    rng = np.random.Generator(np.random.Philox(derive(lesson.seed, "pretrain")))
    left = lesson.examples
    while left > 0:
        habits = lesson.habits_at(1 - left / lesson.examples)
        whole = habits is GOOD
        pool = [encode(renderer, rng, habits, whole) for _ in range(min(left, lesson.batch * 16))]
        left -= len(pool)
        pool.sort(key=lambda example: len(example.token_ids))
        cut = [pool[at : at + lesson.batch] for at in range(0, len(pool), lesson.batch)]
        for index in rng.permutation(len(cut)):
            yield cut[index]


def collate(examples: list[Example]) -> tuple[Tensor, Tensor]:
    """Right-padded ids (B, T) and labels (B, T) with -100 on everything not imitated."""
    import torch

    width = max(len(example.token_ids) for example in examples)
    ids = torch.zeros((len(examples), width), dtype=torch.long)
    labels = torch.full((len(examples), width), -100, dtype=torch.long)
    for row, example in enumerate(examples):
        length = len(example.token_ids)
        ids[row, :length] = torch.tensor(example.token_ids)
        labels[row, length - example.spoken : length] = ids[row, length - example.spoken : length]
    return ids, labels


def pretrain(
    lessons: Sequence[Lesson], report: Callable[[int, float], None] = lambda done, loss: None, start: Path | None = None
) -> Any:
    """Teach a fresh model, or the one in folder ``start``, one lesson after another; returns it in evaluation mode.

    ``report(examples done in all lessons, loss in nats)`` hears each update.
    """
    model: Any = build_model(lessons[0].seed) if start is None else load_model(start)
    before = 0
    for lesson in lessons:
        _teach(model.train(), lesson, before, report)
        before += lesson.examples
    return model.eval()


def _teach(model: Any, lesson: Lesson, before: int, report: Callable[[int, float], None]) -> None:
    """One lesson, with an optimiser of its own."""
    import torch
    from torch.nn import functional as F

    renderer = ChatRenderer(build_tokenizer())
    optimizer = torch.optim.AdamW(model.parameters(), lr=lesson.lr, betas=(0.9, 0.98), weight_decay=0.05)
    done = 0
    for examples in batches(renderer, lesson):
        for group in optimizer.param_groups:
            group["lr"] = lesson.lr * _pace(done / lesson.examples, lesson.warmup)
        ids, labels = collate(examples)
        hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state
        spoken = labels[:, 1:] != -100
        logits = model.lm_head(hidden[:, :-1][spoken])
        loss = F.cross_entropy(logits, labels[:, 1:][spoken])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        done += len(examples)
        report(before + done, float(loss.detach()))


def _pace(progress: float, warmup: float) -> float:
    """Linear warm-up, then cosine to a twentieth."""
    if progress < warmup:
        return progress / warmup
    return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))


def save(model: Any, folder: Path) -> None:
    """Write weights, config and tokenizer in the ordinary Hugging Face layout."""
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder, safe_serialization=True)
    build_tokenizer().save_pretrained(folder)
