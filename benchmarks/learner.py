"""Learner tokens per second: our forward and backward pass against TRL's loss step and against bare matrix products.

    pip install 'sparring[test]' && python benchmarks/learner.py [--shape tiny small] [--threads 1] [--rounds 5]
    python benchmarks/learner.py --device cuda --shape 0.6b --lengths 1024 2048 4096 8192 16384

Each side is given the same random rows (a prompt of a quarter, an answer of up to three quarters of the length, every
answer token trained), the same weights and DAPO's loss at entropy 0, in micro-batches of at most ``--tokens`` padded
tokens, and gets as far as the gradient, which must be the same; optimisers are alike and left out. Tokens are real
ones, prompts included. TRL's side is ``GRPOTrainer._compute_loss`` and its backward pass, as its trainer calls it.

``of matmul`` is the share of the rate that one large product of square matrices reaches on this machine in this run.
Floating-point operations are 6 per weight of the body and token, 6 per weight of the output embedding and trained
token, and 6 x layers x heads x head size x length^2 for causal attention (half of the square), forward and backward;
what is computed twice counts once. Sides take turns, the order turned round each round; ratios are of medians within a
round.
"""

from __future__ import annotations

import argparse
import copy
import gc
import importlib.util
import logging
import os
import platform
import random
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sparring.training.batch import Layout, micro_batches
from sparring.training.losses.base import Tokens
from sparring.training.losses.presets import Dapo
from sparring.training.model import Model
from sparring.training.policy import checkpoint_layers
from sparring.training.rows import Row
from sparring.training.tiny import SHAPE, build_tokenizer

SHAPES: dict[str, dict[str, Any]] = {
    "tiny": {**SHAPE, "vocab_size": 272},
    "small": {
        "hidden_size": 384, "intermediate_size": 1152, "num_hidden_layers": 8, "num_attention_heads": 6,
        "num_key_value_heads": 2, "head_dim": 64, "vocab_size": 32_000, "max_position_embeddings": 4096,
    },
    "0.6b": {
        "hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28, "num_attention_heads": 16,
        "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151_936, "max_position_embeddings": 40_960,
    },
}  # fmt: skip


def make_model(shape: str, device: str, dtype: torch.dtype) -> Any:
    """A random Qwen3 of this shape."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(0)
    config = Qwen3Config(**SHAPES[shape], tie_word_embeddings=True, pad_token_id=0, eos_token_id=1, bos_token_id=None)
    return Qwen3ForCausalLM(config).to(device=device, dtype=dtype).eval()


def make_rows(shape: str, length: int, tokens: int, even: bool) -> list[Row]:
    """Rows that hold about ``tokens`` tokens; answers are a third to the whole of what is left, or all of it."""
    drawn = random.Random(length)
    rows: list[Row] = []
    prompt, whole, total = length // 4, length - length // 4, 0
    while total < tokens:
        said = whole if even else drawn.randint(whole // 3, whole)
        ids = [drawn.randrange(2, SHAPES[shape]["vocab_size"]) for _ in range(prompt + said)]
        share, pull = [0.0] * prompt + [1.0] * said, [drawn.choice((-1.0, 1.0))] * (prompt + said)
        rows.append(
            Row("solver", ids, share, {"advantage": pull, "logprob_old": [float("nan")] * len(ids)}, unit=len(rows))
        )
        total += len(ids)
    return rows


# -- sides -------------------------------------------------------------------------------------------------------------


def ours(name: str, model: Any, layout: Layout, rows: Sequence[Row], tokens: int) -> Side:
    """One gradient through ``Model.score`` and ``Dapo``, on a copy of the model."""
    model = copy.deepcopy(model)
    policy, loss = Model(model, layout=layout), Dapo()
    said = sum(len(row.trained) for row in rows)

    def run() -> None:
        for batch in policy.batches(rows, tokens):
            found = policy.score(batch)
            own = found.logprob_N.detach()
            streams = batch.streams | {"logprob_old": own, "start": own}
            policy.backward(
                loss(Tokens(found.logprob_N, batch.coefficient_N / said, batch.row_N, batch.unit_N, streams))
            )

    return Side(name, run, policy.parameters())


def theirs(model: Any, rows: Sequence[Row], tokens: int, folder: Path) -> Side:
    """One gradient through ``GRPOTrainer._compute_loss``, rows of like length together as ours are."""
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    device = next(model.parameters()).device
    settings = GRPOConfig(
        output_dir=str(folder), report_to=[], use_cpu=device.type == "cpu", bf16=False, beta=0.0, temperature=1.0,
        activation_checkpointing=False, per_device_train_batch_size=2, num_generations=2, disable_tqdm=True,
    )  # fmt: skip
    trainer = GRPOTrainer(
        model, [no_reward], settings, Dataset.from_list([{"prompt": "a"}] * 2),
        processing_class=build_tokenizer(),
    )  # fmt: skip
    trainer.current_gradient_accumulation_steps = trainer.args.steps_per_generation = 1
    said = torch.tensor(sum(len(row.trained) for row in rows), device=device)
    parts = [padded(part, device) | {"num_items_in_batch": said} for part in micro_batches(rows, tokens)]

    def run() -> None:
        for inputs in parts:
            trainer._compute_loss(model, inputs).backward()

    return Side("TRL", run, list(model.parameters()))


def no_reward(completions: Sequence[str], **more: Any) -> list[float]:
    """TRL wants a reward function; the advantages are given."""
    return [0.0] * len(completions)


def padded(rows: Sequence[Row], device: torch.device) -> dict[str, Tensor]:
    """TRL's inputs: prompts padded on the left, completions on the right."""
    cut = [row.trained[0] for row in rows]
    prompts = [row.token_ids[:at] for row, at in zip(rows, cut, strict=True)]
    answers = [row.token_ids[at:] for row, at in zip(rows, cut, strict=True)]
    wide, long = max(map(len, prompts)), max(map(len, answers))
    made = {
        "prompt_ids": [[0] * (wide - len(one)) + one for one in prompts],
        "prompt_mask": [[0] * (wide - len(one)) + [1] * len(one) for one in prompts],
        "completion_ids": [one + [0] * (long - len(one)) for one in answers],
        "completion_mask": [[1] * len(one) + [0] * (long - len(one)) for one in answers],
        "advantages": [row.streams["advantage"][-1] for row in rows],
    }
    return {name: torch.tensor(values, device=device) for name, values in made.items()}


# -- measuring ---------------------------------------------------------------------------------------------------------


@dataclass
class Side:
    """One way to the gradient, with wall and CPU seconds of each round; ``peak`` is GiB of GPU memory."""

    name: str
    run: Callable[[], None]
    weights: Sequence[Tensor]  # where the gradient arrives
    wall_s: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)
    peak: float = 0.0
    norm: float = 0.0
    failed: str = ""


def measure(side: Side) -> None:
    """One round; running out of GPU memory is a result."""
    for weight in side.weights:
        weight.grad = None
    cuda = side.weights[0].is_cuda
    if cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        torch.cuda.synchronize()
    wall, cpu = time.perf_counter(), time.process_time()
    try:
        side.run()
    except torch.OutOfMemoryError:
        side.failed = "out of memory"
        gc.collect()
        return
    if cuda:
        torch.cuda.synchronize()
        side.peak = torch.cuda.max_memory_allocated() / 2**30
    side.wall_s.append(time.perf_counter() - wall)
    side.cpu_s.append(time.process_time() - cpu)
    side.norm = float(torch.stack([w.grad.float().norm() for w in side.weights if w.grad is not None]).norm())


def matmul_rate(device: str, dtype: torch.dtype) -> float:
    """Floating-point operations per second of a large square product: the best of several."""
    n = 8192 if device == "cuda" else 1536
    one, other = (torch.randn((n, n), device=device).to(dtype) for _ in range(2))
    best = 0.0
    for _ in range(8):
        if device == "cuda":
            torch.cuda.synchronize()
        clock = time.perf_counter()
        torch.mm(one, other)
        if device == "cuda":
            torch.cuda.synchronize()
        best = max(best, 2 * n**3 / (time.perf_counter() - clock))
    return best


def work(model: Any, rows: Sequence[Row]) -> float:
    """Floating-point operations of one gradient, as the module's docstring counts them."""
    shape = model.config
    head = model.get_output_embeddings().weight.numel()
    body = sum(weight.numel() for weight in model.parameters()) - head
    total = sum(len(row.token_ids) for row in rows)
    squares = sum(len(row.token_ids) ** 2 for row in rows)
    wide = shape.num_hidden_layers * shape.num_attention_heads * shape.head_dim
    return 6.0 * body * total + 6.0 * head * sum(len(row.trained) for row in rows) + 6.0 * wide * squares


def compare(asked: argparse.Namespace, shape: str, length: int) -> list[str]:
    """Rows of the table for one shape and length."""
    dtype = torch.bfloat16 if asked.device == "cuda" else torch.float32
    model = make_model(shape, asked.device, dtype)
    rows = make_rows(shape, length, asked.total, asked.even)
    with tempfile.TemporaryDirectory() as folder:
        trl = [] if asked.alone else [theirs(copy.deepcopy(model), rows, asked.tokens, Path(folder))]
        layouts: tuple[Layout, ...] = ("padded", "packed")
        if asked.checkpointing:
            checkpoint_layers(model)
        how = ", recomputed" if asked.checkpointing else ""
        sides = [*trl, *(ours(layout + how, model, layout, rows, asked.tokens) for layout in layouts)]
        for number in range(asked.rounds + 1):
            for side in sides if number % 2 else sides[::-1]:
                if not side.failed:
                    measure(side)
        rate = matmul_rate(asked.device, dtype)
    for side in sides:
        del side.wall_s[:1], side.cpu_s[:1]  # the first round warms up
    norms = [side.norm for side in sides if not side.failed]
    assert max(norms) <= (1.02 if dtype.itemsize == 2 else 1.0001) * min(norms), f"gradients differ: {norms}"
    return [line(side, sides[0], shape, length, rows, work(model, rows) / rate) for side in sides]


def line(side: Side, base: Side, shape: str, length: int, rows: Sequence[Row], ideal_s: float) -> str:
    """One Markdown row; ``ideal_s`` is how long bare products would take."""
    if side.failed or not side.wall_s:
        return f"| {shape} | {length} | {side.name} | {side.failed} | | | | |"
    total = sum(len(row.token_ids) for row in rows)
    wall, cpu = statistics.median(side.wall_s), statistics.median(side.cpu_s)

    def against(mine: Sequence[float], other: Sequence[float]) -> str:
        return f"{statistics.median(a / b for a, b in zip(other, mine, strict=False)):.2f}" if other else ""

    cells = [shape, str(length), side.name, f"{total / wall:,.0f}", f"{total / cpu:,.0f}"]
    cells += [against(side.wall_s, base.wall_s), against(side.cpu_s, base.cpu_s), f"{100 * ideal_s / wall:.0f}%"]
    return "| " + " | ".join(cells) + " |" + (f" {side.peak:.1f} GiB |" if side.peak else "")


def main() -> None:
    """Print a table: every shape at every length."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--shape", nargs="+", choices=tuple(SHAPES), default=["tiny", "small"])
    parser.add_argument("--lengths", type=int, nargs="+", default=[256])
    parser.add_argument("--tokens", type=int, default=0, help="padded tokens of a micro-batch; 4,096, on CUDA 32,768")
    parser.add_argument("--total", type=int, default=0, help="tokens of a step; twice a micro-batch")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--even", action="store_true", help="all rows of one length: nothing to pad")
    parser.add_argument("--checkpointing", action="store_true", help="recompute layers in the backward pass")
    parser.add_argument("--alone", action="store_true", help="without TRL")
    asked = parser.parse_args()
    asked.tokens = asked.tokens or (32_768 if asked.device == "cuda" else 4096)
    asked.total = asked.total or 2 * asked.tokens
    asked.alone = asked.alone or asked.checkpointing
    if not asked.alone and importlib.util.find_spec("trl") is None:
        sys.exit("TRL is not installed: pip install 'sparring[test]', or --alone")
    torch.set_num_threads(asked.threads)
    warnings.simplefilter("ignore")
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
    for name in ("transformers", "trl", "accelerate"):
        logging.getLogger(name).setLevel(logging.ERROR)
    names = ("torch", "transformers", "sparring", *([] if asked.alone else ["trl"]))
    where = (
        torch.cuda.get_device_name() if asked.device == "cuda" else f"{asked.threads} thread(s), {platform.machine()}"
    )
    print(", ".join(f"{name} {version(name)}" for name in names) + f"; {where}; load {os.getloadavg()[0]:.1f}\n")
    print(
        "| shape | length | side | tokens/s | per CPU s | wall ratio | CPU ratio | of matmul |"
        + " peak |" * (asked.device == "cuda")
    )
    print("|---|--:|---|--:|--:|--:|--:|--:|" + "--:|" * (asked.device == "cuda"))
    for shape in asked.shape:
        for length in asked.lengths:
            print("\n".join(compare(asked, shape, length)), flush=True)


if __name__ == "__main__":
    main()
