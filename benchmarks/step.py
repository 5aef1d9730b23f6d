"""A whole GRPO step, Sparring against TRL's GRPOTrainer: same model, prompts, group size and completion lengths.

    pip install 'sparring[test]' && python benchmarks/step.py [--threads 1 2] [--rounds 6] [--steps 5]

A step is rollout, scoring, storing and one AdamW update of ``builtin:tiny`` in float32. Ours is the loop behind
``sparring run``: LangGraph roles, the code environment, every token in SQLite, a checkpoint each step. TRL gets its
fastest setting on a CPU: no activation checkpointing, no bfloat16, no saving; it runs once more with a checkpoint each
step. Lengths are forced: no token ends a turn on either side, so every completion has ``--length`` tokens, and all
prompts are equally long. The reward is the verifier's plus a hash of the text in [0, 1), so that no group agrees and
both sides train on every token.

The sides take turns in one process, in blocks of ``--steps`` steps, the order turned round each round; the first step
of a block is not counted. Ratios are of medians within a round, so that load cancels. CPU time is that of this process
and its children (the sandbox). Each thread count has a process of its own. A machine with a load above 1.5 per core is
refused unless ``--busy`` says that CPU time alone will be read.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from sparring.agents.role import View
from sparring.envs.code.env import verify
from sparring.envs.types import Episode, Score, Task, Turn
from sparring.scenarios.load import load
from sparring.scenarios.registry import rewards
from sparring.storage.store import Store
from sparring.training import loop
from sparring.training import session as sessions

NEVER = 10**6
SCENARIO = """
name: step
environment: {{kind: code, mode: predict_output}}
tasks: {{kind: jsonl, path: tasks.jsonl}}
roles:
  solver: {{prompt: {prompt}, reward: {{verifier: 1.0, hash: 1.0}}, sampling: {{max_tokens: {length}}}}}
graph:
  nodes: {{solve: {{role: solver, samples: {group}}}, verify: {{do: step}}}}
  edges: [solve -> verify]
rollout: {{episodes: {prompts}, picks: {prompts}}}
training: {{steps: {never}, optimizer: {{lr: 1.0e-5}}, checkpoint: {{every: {every}}}}}
evaluation: {{every: 0}}
"""
Tick = Callable[[], None]


@dataclass(frozen=True)
class Size:
    """One step's work: ``prompts`` x ``group`` completions of ``length`` tokens, after the prompt text ``prompt``."""

    prompts: int
    group: int
    length: int
    prompt: str


def hash_of(said: str) -> float:
    """A number in [0, 1) that depends on every character."""
    return zlib.crc32(said.encode(errors="replace")) / 2**32


@rewards("hash")
def hash_reward(episode: Episode, turn: Turn, context: Any) -> Score:
    """``hash_of`` what was said."""
    return Score.valued("hash", hash_of(turn.said), "benchmark")


def programs() -> Iterator[tuple[str, str]]:
    """Programs of equal length and what they print."""
    for first in range(2, 10):
        for second in range(1, 9):
            yield f"a = {first}\nb = a + {second}\nc = b - {second}\nprint(c)", str(first)


# -- ours --------------------------------------------------------------------------------------------------------------


class Ours:
    """A run of the loop that ``sparring run`` runs, stopped after as many steps as asked."""

    def __init__(self, folder: Path, size: Size, every: int) -> None:
        folder.mkdir()
        (folder / "tasks.jsonl").write_text("\n".join(json.dumps({"program": program}) for program, _ in programs()))
        (folder / "step.yaml").write_text(SCENARIO.format(**vars(size), every=every, never=NEVER))
        self.session = sessions.start(load(folder / "step.yaml"), Store(folder / "sparring.db"))
        self.session.engine.stop_ids = frozenset()  # every completion runs to max_tokens
        self.turns = size.prompts * size.group
        self.tokens = self.turns * size.length

    def advance(self, steps: int, tick: Tick) -> None:
        """Run ``steps`` steps; each must have trained on every token it sampled."""
        done = 0

        def watch(told: loop.Told) -> None:
            nonlocal done
            if told.step == 0:
                return
            trained, turns = told.figures["train/tokens"], told.figures["turns"]
            assert (trained, turns) == (self.tokens, self.turns), f"step {told.step}: {trained} tokens, {turns} turns"
            done += 1
            tick()

        asyncio.run(loop.learn(self.session, watch, lambda: done >= steps))

    def prompts(self) -> list[dict[str, str]]:
        """The same prompts as rows for TRL; fails when its tokenizer would read them otherwise."""
        policy, role = self.session.policy, self.session.rollout.runtime.roles["solver"]
        rows = []
        for program, printed in programs():
            segment = policy.renderer.open(role.observe(View(Task("code", {"program": program}))))
            assert tuple(policy.tokenizer(segment.text).input_ids) == segment.token_ids
            self.read = len(segment.token_ids)
            rows.append({"prompt": segment.text, "reference": printed})
        return rows

    def close(self) -> None:
        """End the sandbox."""
        self.session.close()


# -- TRL's -------------------------------------------------------------------------------------------------------------


def verified(completions: Sequence[str], reference: Sequence[str], **rest: Any) -> list[float]:
    """TRL's reward function: the code environment's own comparison."""
    return [verify(said, truth).value or 0.0 for said, truth in zip(completions, reference, strict=True)]


def hashed(completions: Sequence[str], **rest: Any) -> list[float]:
    """TRL's second reward function."""
    return [hash_of(said) for said in completions]


class Theirs:
    """GRPOTrainer with its default loss (DAPO's) and our optimiser settings."""

    def __init__(self, folder: Path, size: Size, rows: list[dict[str, str]], every: int) -> None:
        from datasets import Dataset
        from transformers import AutoModelForCausalLM, AutoTokenizer, PrinterCallback
        from trl import GRPOConfig, GRPOTrainer

        from sparring.training.policy import locate

        where = locate("builtin:tiny", folder)
        model = AutoModelForCausalLM.from_pretrained(where)
        settings = GRPOConfig(
            output_dir=str(folder), report_to=[], use_cpu=True, bf16=False, activation_checkpointing=False,
            per_device_train_batch_size=size.prompts * size.group, num_generations=size.group,
            max_completion_length=size.length, learning_rate=1e-5, lr_scheduler_type="constant", adam_beta2=0.95,
            max_steps=NEVER, disable_tqdm=True, logging_strategy="no",
            save_strategy="steps" if every < NEVER else "no", save_steps=every, save_total_limit=2,
        )  # fmt: skip
        self.trainer = GRPOTrainer(
            model, [verified, hashed], settings, Dataset.from_list(rows),
            processing_class=AutoTokenizer.from_pretrained(where), callbacks=[self._watcher()],
        )  # fmt: skip
        self.trainer.remove_callback(PrinterCallback)
        self.trainer.eos_token_ids = [NEVER]  # no token ends a turn
        self.trainer.generation_config.eos_token_id = self.trainer.generation_kwargs["eos_token_id"] = NEVER
        self.length = size.length
        self.tick: Tick = lambda: None

    def advance(self, steps: int, tick: Tick) -> None:
        """Run ``steps`` steps; each must have completions of the full length."""
        self.tick = tick
        self.trainer.args.max_steps = steps
        self.trainer.train()

    def close(self) -> None:
        """Nothing is held."""

    def _watcher(self) -> Any:
        """A step is over when the next one begins: its checkpoint is written after ``on_step_end``."""
        from transformers import TrainerCallback

        class Watcher(TrainerCallback):  # type: ignore[misc]
            def on_step_begin(_, settings: Any, state: Any, *rest: Any, **more: Any) -> None:
                if state.global_step > 0:
                    self.tick()

            def on_step_end(_, *arguments: Any, **more: Any) -> None:
                sampled = self.trainer._metrics["train"].pop("completions/mean_length")[-1]
                assert sampled == self.length, f"TRL sampled {sampled} tokens per completion"

            def on_train_end(_, *arguments: Any, **more: Any) -> None:
                self.tick()

        return Watcher()


# -- the comparison ----------------------------------------------------------------------------------------------------


@dataclass
class Side:
    """One of the things compared, with the seconds of each counted step, a list per round."""

    name: str
    runner: Any
    wall_s: list[list[float]] = field(default_factory=list)
    cpu_s: list[list[float]] = field(default_factory=list)

    def block(self, steps: int) -> None:
        """Run one step more than ``steps`` and count the last ``steps``."""
        ticks: list[tuple[float, float]] = []
        self.runner.advance(steps + 1, lambda: ticks.append((time.perf_counter(), cpu_seconds())))
        assert len(ticks) == steps + 1, f"{self.name}: {len(ticks)} steps seen"
        pairs = list(itertools.pairwise(ticks))
        self.wall_s.append([after[0] - before[0] for before, after in pairs])
        self.cpu_s.append([after[1] - before[1] for before, after in pairs])


def cpu_seconds() -> float:
    """CPU time of this process and of everything it started."""
    import psutil

    own = psutil.Process()
    return sum(sum(process.cpu_times()[:2]) for process in [own, *own.children(recursive=True)])


def compare(size: Size, rounds: int, steps: int) -> tuple[list[Side], int]:
    """Interleave the four sides after two steps of each to warm up; also the tokens of a prompt."""
    with tempfile.TemporaryDirectory() as folder:
        ours = Ours(Path(folder) / "ours", size, 1)
        rows = ours.prompts()
        sides = [
            Side("Sparring, checkpoint each step", ours),
            Side("TRL", Theirs(Path(folder) / "trl", size, rows, NEVER)),
            Side("Sparring, no checkpoint", Ours(Path(folder) / "light", size, NEVER)),
            Side("TRL, checkpoint each step", Theirs(Path(folder) / "saving", size, rows, 1)),
        ]
        for side in sides:
            side.runner.advance(2, lambda: None)
        for turn in range(rounds):
            for side in sides if turn % 2 == 0 else sides[::-1]:
                side.block(steps)
        for side in sides:
            side.runner.close()
    return sides, ours.read


def table(sides: Sequence[Side]) -> list[str]:
    """Markdown rows: median (quartiles) in ms, and how much faster than TRL without checkpoints, round by round."""
    against = sides[1]
    lines = ["| side | wall ms | CPU ms | wall ratio | CPU ratio |", "|---|--:|--:|--:|--:|"]
    for side in sides:
        cells = [side.name, spread(side.wall_s), spread(side.cpu_s)]
        cells += [ratio(against.wall_s, side.wall_s), ratio(against.cpu_s, side.cpu_s)]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def spread(rounds: list[list[float]]) -> str:
    """Median (first to third quartile) of all steps in ms."""
    low, middle, high = statistics.quantiles([1e3 * value for values in rounds for value in values], n=4)
    return f"{middle:.0f} ({low:.0f} to {high:.0f})"


def ratio(theirs: list[list[float]], mine: list[list[float]]) -> str:
    """Median (least to most) over rounds of median theirs / median mine."""
    found = [statistics.median(a) / statistics.median(b) for a, b in zip(theirs, mine, strict=True)]
    return f"{statistics.median(found):.2f} ({min(found):.2f} to {max(found):.2f})"


def check_load(busy: bool) -> float:
    """The load now; ends the program when others are using the machine and that was not expected."""
    load_now, limit = os.getloadavg()[0], 1.5 * (os.cpu_count() or 1)
    if load_now > limit and not busy:
        sys.exit(f"the load is {load_now:.1f}, above {limit:.1f}: figures would be about other programs; try later")
    return load_now


def child(asked: argparse.Namespace) -> None:
    """One thread count, in this process."""
    import torch

    torch.set_num_threads(asked.threads[0])
    warnings.simplefilter("ignore")
    size = Size(asked.prompts, asked.group, asked.length, asked.prompt)
    before = check_load(asked.busy)
    sides, read = compare(size, asked.rounds, asked.steps)
    work = f"{size.prompts} prompts of {read} tokens x {size.group} completions of {size.length} tokens"
    print(f"\n{asked.threads[0]} thread(s), {work}, {asked.rounds} x {asked.steps} steps per side", end="")
    print(f", load {before:.1f} before, {os.getloadavg()[0]:.1f} after\n\n" + "\n".join(table(sides)), flush=True)


def main() -> None:
    """Compare once per thread count and print a table each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--prompts", type=int, default=8)
    parser.add_argument("--group", type=int, default=8)
    parser.add_argument("--length", type=int, default=64)
    parser.add_argument("--prompt", default="brief/solver", help="the solver's prompt; full/solver is longer")
    parser.add_argument("--busy", action="store_true", help="run on a loaded machine; read the CPU columns only")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if importlib.util.find_spec("trl") is None:
        sys.exit("TRL is not installed: pip install 'sparring[test]'")
    if asked.child:
        return child(asked)
    names = ("trl", "transformers", "torch", "sparring")
    print(", ".join(f"{name} {version(name)}" for name in names), f"; Python {platform.python_version()},", end=" ")
    print(f"{os.cpu_count()} cores, {platform.machine()}", flush=True)
    for threads in asked.threads:
        passed = ("rounds", "steps", "prompts", "group", "length", "prompt")
        rest = [f"--{name}={getattr(asked, name)}" for name in passed]
        limits = {"OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false"}
        command = [sys.executable, __file__, "--child", "--threads", str(threads), *rest, *["--busy"] * asked.busy]
        if code := subprocess.run(command, env=os.environ | limits).returncode:
            sys.exit(code)


if __name__ == "__main__":
    main()
