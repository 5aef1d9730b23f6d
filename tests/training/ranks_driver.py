"""Trains small policies as one process and as two ranks over gloo, in forks of one process; prints what came out.

Called by ``test_ranks.py`` in a process of its own: ``python ranks_driver.py FOLDER adam equal losing halved``.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import torch
import torch.distributed.fsdp  # once, for every fork

from sparring.scenarios.errors import SparringError
from sparring.scenarios.schema import LoraSpec, OptimizerSpec, ReferenceSpec, TrainingSpec
from sparring.training import checkpoint, ranks, tiny
from sparring.training.advantages.tokens import Gae
from sparring.training.learner import Learner
from sparring.training.lora import adapt
from sparring.training.losses.distill import Distillation
from sparring.training.losses.heads import ValueHead
from sparring.training.losses.kl import Kl
from sparring.training.losses.presets import Ppo
from sparring.training.model import Model
from sparring.training.rows import Row

Kind = Literal["adamw", "sgd"]
SHAPE = tiny.SHAPE | {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "head_dim": 16}
STEPS = 3
PADDING = "train/padding"  # ranks deal other micro-batches than one process


def build(kind: Kind, dtype: str = "float32", renewed: int = 0, adapters: bool = False) -> Learner:
    """A policy with a value head, its start as reference (``renewed`` so often), and every setting that matters."""
    tiny.SHAPE = SHAPE
    module: Any = tiny.build_model(0).eval()
    with torch.no_grad():
        for weight in module.parameters():
            if weight.dim() > 1:
                weight.mul_(4.0)
    module.to(getattr(torch, dtype))
    if adapters:
        adapt(module, LoraSpec(rank=3), ["critic"])
    model = Model(module, ["value"])
    losses: dict[str, Any] = {
        "policy": Ppo(Ppo.Config(kl=Kl(coefficient=0.1), entropy=0.01)),
        "value": ValueHead(),
        "distil": Distillation(),
    }
    optimizer = OptimizerSpec(kind=kind, lr=0.003 if kind == "adamw" else 0.3, warmup=2)
    spec = TrainingSpec(
        optimizer=optimizer,
        max_grad_norm=0.05,
        micro_batch_tokens=48,
        minibatches=2,
        epochs=2,
        on_bad_step="skip",
        reference=ReferenceSpec(every=renewed),
    )
    return Learner(model, losses, spec, model.reference())


def row(unit: int, context: int, said: int, advantage: float, loss: str = "policy") -> Row:
    """Unlike any other row of its step, in length and in tokens."""
    ids = [(11 * at + 5 * context + unit) % 250 for at in range(context + said - 1)] + [260]
    zeros = [0.0] * context
    over = {"advantage": advantage, "logprob_old": float("nan"), "return": advantage}
    streams = {name: zeros + [value] * said for name, value in over.items()}
    streams["reward"] = [0.0] * (len(ids) - 1) + [advantage]
    return Row("solver" if unit % 3 else "critic", ids, zeros + [0.2 / said] * said, streams, unit=unit, loss=loss)


def lesson(step: int) -> list[Row]:
    """Uneven rows for three losses, some of one unit; the second step has one row, so one rank has none."""
    if step == 2:
        return [row(0, 4, 6, 1.0)]
    many = [row(unit, 2 + 5 * unit % 13, 1 + 7 * unit % 11, (-1.0) ** unit * (1 + unit / 5)) for unit in range(7)]
    pair = [row(50, 3, 4, 1.0), row(50, 3, 9, -1.0)]
    values = [row(60 + unit, 4 + unit, 3 + 4 * unit, 0.5, "value") for unit in range(3)]
    return [*many, *pair, *values, row(70, 5, 8, 0.0, "distil")]


def shapes() -> dict[str, Any]:
    """Whitened over the step, so that no rank can shape its own rows alone."""
    return {"policy": Gae(Gae.Config(whiten=True)), "value": Gae()}


def train(learner: Learner, first: int, last: int, adapters: bool = False) -> list[dict[str, float]]:
    """Some steps' figures. With ``adapters`` every other unit trains one of its own."""

    def adapted(one: Row) -> Row:
        return replace(one, adapter="critic") if adapters and one.unit % 2 else one

    lessons = [list(map(adapted, lesson(step))) for step in range(first, last + 1)]
    return [learner.step(rows, shapes()).figures for rows in lessons]


def keep(file: Path, learner: Learner, figures: Any) -> None:
    """All weights as rank 0's engine would read them, and what the steps said."""
    heads = {f"heads.{name}": weight for name, weight in learner.whole.heads.state_dict().items()}
    torch.save((learner.whole.module.state_dict() | heads, figures, learner.weights_sha()), file)


def save(folder: Path, learner: Learner) -> str:
    return checkpoint.write(folder, learner.whole, tiny.build_tokenizer(), learner.optimizer, {}).sha


def read(folder: Path, learner: Learner) -> None:
    sha = (folder.with_suffix(".sha")).read_text()
    checkpoint.read(folder, sha, learner.whole, learner.optimizer)


def forked(*acts: Callable[[], None]) -> list[int]:
    """Run each in a fork, all at once; their exit codes."""
    pids = []
    for act in acts:
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                act()
                code = 0
            except BaseException as error:
                print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
            finally:
                sys.stderr.flush()
                os._exit(code)
        pids.append(pid)
    return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]


def together(
    make: Callable[[], Learner],
    lead: Callable[[Learner], None],
    second: Callable[[], Learner] | None = None,
    minutes: float = 1.0,
) -> list[int]:
    """Two ranks: the first leads, the second follows its words (with the learner ``second``). Their exit codes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def act(rank: int) -> None:
        os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        os.environ[ranks.MINUTES] = str(minutes)
        with ranks.joined() as joined:
            if rank == 0:
                joined.tell("scenario", scenario={})
                lead(make())
            else:
                ranks.follow(joined, lambda scenario: (second or make)())

    return forked(lambda: act(0), lambda: act(1))


def gap(one: Path, other: Path) -> dict[str, Any]:
    """How far apart two results are: the worst weight, the worst figure."""
    (mine, said, sha), (theirs, told, other_sha) = torch.load(one), torch.load(other)
    assert list(mine) == list(theirs) and [set(step) for step in said] == [set(step) for step in told]
    return {
        "weights": max(float((mine[name].double() - theirs[name].double()).abs().max()) for name in mine),
        "figures": max(abs(a[key] - b[key]) for a, b in zip(said, told, strict=True) for key in a if key != PADDING),
        "moved": float(said[-1]["train/grad_norm"]),
        "same hash": sha == other_sha,
    }


def equality(root: Path, kind: Kind, dtype: str = "float32", adapters: bool = False) -> dict[str, Any]:
    """The same three steps by one process and by two ranks."""

    def make() -> Learner:
        return build(kind, dtype, 2 if kind == "sgd" else 0, adapters)

    def steps(file: Path) -> Callable[[Learner], None]:
        return lambda learner: keep(file, learner, train(learner, 1, STEPS, adapters))

    one, two = (root / f"{kind}-{dtype}-{adapters}-{name}" for name in ("one", "two"))
    assert forked(lambda: steps(one)(make())) == [0]
    assert together(make, steps(two)) == [0, 0]
    return gap(one, two)


def resuming(root: Path, kind: Kind, dtype: str = "float32") -> dict[str, Any]:
    """Two steps, a checkpoint, a third step: across world sizes, against one process that never stopped."""

    def whole(learner: Learner) -> None:
        train(learner, 1, 2)
        keep(root / "whole", learner, train(learner, 3, 3))

    def begin(name: str) -> Callable[[Learner], None]:
        def act(learner: Learner) -> None:
            train(learner, 1, 2)
            (root / f"{name}.sha").write_text(save(root / name, learner))
            (root / f"{name}.before").write_text(learner.weights_sha())

        return act

    def go_on(name: str) -> Callable[[Learner], None]:
        def act(learner: Learner) -> None:
            if learner.ranks.rank == 0:
                for weight in learner.whole.weights():
                    weight.data.zero_()  # only what is read and handed out can be right
            read(root / name, learner)
            learner.steps = 2
            (root / f"{name}.after").write_text(learner.weights_sha())
            keep(root / f"{name}.end", learner, train(learner, 3, 3))

        return act

    one, two = f"{kind}-{dtype}-one-first", f"{kind}-{dtype}-two-first"
    assert forked(lambda: whole(build(kind, dtype)), lambda: begin(one)(build(kind, dtype))) == [0, 0]
    assert together(lambda: build(kind, dtype), begin(two)) == [0, 0]
    assert together(lambda: build(kind, dtype), go_on(one)) == [0, 0]
    assert forked(lambda: go_on(two)(build(kind, dtype))) == [0]
    found = {}
    for name in (one, two):
        same = (root / f"{name}.before").read_text() == (root / f"{name}.after").read_text()
        apart = gap(root / "whole", root / f"{name}.end")
        found[name.removeprefix(f"{kind}-{dtype}-")] = apart | {"read as written": same}
    return found


def refusal(root: Path) -> dict[str, Any]:
    """A NaN in one rank's rows: both skip the step and go on."""
    bad = replace(row(99, 3, 4, 1.0), temperature=float("nan"))

    def act(file: Path) -> Callable[[Learner], None]:
        def steps(learner: Learner) -> None:
            learner.spec = learner.spec.model_copy(update={"minibatches": 1, "epochs": 1})
            before = learner.weights_sha()
            refused = learner.step([*lesson(1), bad]).refused
            told = {"refused": refused, "kept": learner.weights_sha() == before}
            file.with_suffix(".json").write_text(json.dumps(told))
            keep(file, learner, train(learner, 1, 1))

        return steps

    one, two = root / "bad-one", root / "bad-two"
    assert forked(lambda: act(one)(build("sgd"))) == [0]
    assert together(lambda: build("sgd"), act(two)) == [0, 0]
    told: dict[str, Any] = gap(one, two) | json.loads(two.with_suffix(".json").read_text())
    return told


def losing(root: Path) -> dict[str, str]:
    """What rank 0 says when the other fails, is killed, or takes too long."""

    def fails(*_: Any) -> float:
        raise ZeroDivisionError("a bug in the loss")

    def killed(*_: Any) -> float:
        os.kill(os.getpid(), signal.SIGKILL)
        return 0.0

    def sleeps(*_: Any) -> float:
        time.sleep(11)
        return 0.0

    def told(act: Callable[..., float]) -> None:
        def second() -> Learner:
            learner = build("sgd")
            learner._accumulate = act  # type: ignore[method-assign]  # what breaks is this rank's loss alone
            return learner

        def lead(learner: Learner) -> None:
            try:
                learner.step(lesson(1))
            except SparringError as error:
                (root / act.__name__).write_text(str(error))
                raise

        assert together(lambda: build("sgd"), lead, second, minutes=0.12)[0] == 1

    acts = (fails, killed, sleeps)
    assert forked(*(partial(told, act) for act in acts)) == [0, 0, 0]
    return {act.__name__: (root / act.__name__).read_text() for act in acts}


def adam(root: Path) -> dict[str, Any]:
    """The least of ``equal``: three steps of the optimiser that everybody uses."""
    return {"adamw": equality(root, "adamw")}


def equal(root: Path) -> dict[str, Any]:
    """Everything else that two ranks and one process should come to alike."""
    found: dict[str, Any] = {}
    for name, act in {
        "sgd": lambda: equality(root, "sgd"),
        **({"adapters": lambda: equality(root, "adamw", adapters=True)} if find_spec("peft") else {}),
        "resuming": lambda: resuming(root, "adamw"),
        "refusal": lambda: refusal(root),
    }.items():
        clock = time.monotonic()
        found[name] = act()
        print(name, f"{time.monotonic() - clock:.1f} s", file=sys.stderr, flush=True)
    return found


def halved(root: Path) -> dict[str, Any]:
    """Checkpoints with 16-bit weights and their masters."""
    return {"resuming": resuming(root, "sgd", "bfloat16")}


def main(root: Path, *names: str) -> None:
    torch.set_num_threads(1)
    build("sgd", adapters=find_spec("peft") is not None)  # so that no fork has to import what this imports

    def kept(act: Callable[[Path], dict[str, Any]]) -> None:
        (root / f"{act.__name__}.json").write_text(json.dumps(act(root)))

    acts = {act.__name__: act for act in (adam, equal, losing, halved)}
    assert set(forked(*(partial(kept, acts[name]) for name in names))) == {0}  # side by side: losing is mostly waiting
    print(json.dumps({name: json.loads((root / f"{name}.json").read_text()) for name in names}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
