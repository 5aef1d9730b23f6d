"""Two ranks are one process: the same weights, figures, refusals and checkpoints, and nobody waits for ever."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from sparring.training.batch import Layout
from sparring.training.ranks import Slot, current, deal
from sparring.training.rows import Row

DRIVER = Path(__file__).with_name("ranks_driver.py")
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "PYTHONSAFEPATH": "1", "PYTHONWARNINGS": "error"}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What the driver measured, all but what the quick test below measures."""
    return drive(tmp_path_factory.mktemp("ranks"), "equal", "losing")


def drive(folder: Path, *names: str) -> Any:
    done = subprocess.run(
        [sys.executable, str(DRIVER), str(folder), *names],
        capture_output=True, text=True, check=False, timeout=200, env=os.environ | ENVIRONMENT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout)


def equals(told: Any) -> bool:
    """The gradient that is cut to 0.05 is none of rounding, and the two ends are one."""
    return bool(told["moved"] > 0.1 and told["weights"] < 1e-6 and told["figures"] < 1e-5)


@pytest.mark.slow
def test_two_ranks_equal_one_process_after_three_steps(tmp_path: Path) -> None:
    told = drive(tmp_path, "adam")["adam"]["adamw"]
    assert equals(told), told


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sgd", "adapters"])
def test_so_do_ranks_of_other_kinds(found: Any, kind: str) -> None:
    if kind == "adapters" and find_spec("peft") is None:
        pytest.skip("adapters need the extra `lora`")
    assert equals(found["equal"][kind]), found["equal"][kind]


@pytest.mark.slow
@pytest.mark.parametrize("first", ["one-first", "two-first"])
def test_a_checkpoint_goes_on_with_another_number_of_ranks(found: Any, first: str) -> None:
    told = found["equal"]["resuming"][first]
    assert told["read as written"] and told["weights"] < 1e-6


@pytest.mark.slow
def test_so_does_one_with_16_bit_weights_and_their_masters(tmp_path: Path) -> None:
    for told in drive(tmp_path, "halved")["halved"]["resuming"].values():
        assert told["read as written"] and told["weights"] <= 2**-9  # the last bit of a weight below 1/2


@pytest.mark.slow
def test_what_one_rank_finds_not_finite_all_refuse(found: Any) -> None:
    told = found["equal"]["refusal"]
    assert told["refused"] == "step 1: the loss 'policy' is nan on rank 1; it was not applied"
    assert told["kept"] and told["weights"] < 1e-6  # and the step after is the one that a single process takes


@pytest.mark.slow
def test_a_rank_that_is_lost_is_named(found: Any) -> None:
    assert "rank 1 failed (ZeroDivisionError: a bug in the loss)" in found["losing"]["fails"]
    for how in ("killed", "sleeps"):
        assert "rank 1 did not answer (last seen at: micro-batch 1 of " in found["losing"][how]
    assert "sparring resume" in found["losing"]["sleeps"]


def unit(number: int, lengths: Sequence[int], loss: str, adapter: str) -> list[Row]:
    return [Row("r", [1] * n, [0.0] + [1.0] * (n - 1), {}, unit=number, loss=loss, adapter=adapter) for n in lengths]


LENGTHS = some.lists(some.integers(2, 40), min_size=1, max_size=3)
UNITS = some.lists(some.tuples(LENGTHS, some.sampled_from("ab"), some.sampled_from("xy")), max_size=12)


@given(UNITS, some.integers(1, 5), some.sampled_from([1, 30, 1000]), some.sampled_from(["padded", "packed"]))
def test_rows_are_dealt_once_whole_and_in_turns_that_line_up(
    units: list[tuple[list[int], str, str]], size: int, tokens: int, layout: Layout
) -> None:
    rows = [row for number, drawn in enumerate(units) for row in unit(number, *drawn)]
    lanes = deal(rows, tokens, layout, size)
    assert len(lanes) == size and len({len(lane) for lane in lanes}) == 1
    worked = [[row for slot in lane if not slot.idle for row in slot.rows] for lane in lanes]
    assert sorted(map(id, rows)) == sorted(id(row) for rank in worked for row in rank)
    assert all(len({row.unit for row in one} & {row.unit for row in other}) == 0
               for at, one in enumerate(worked) for other in worked[:at])  # fmt: skip
    for turn in zip(*lanes, strict=True):
        assert len({(row.loss, row.adapter) for slot in turn for row in slot.rows}) == 1
        assert not all(slot.idle for slot in turn)


@given(UNITS, some.integers(2, 5))
def test_no_rank_has_more_than_its_share_and_one_unit(units: list[tuple[list[int], str, str]], size: int) -> None:
    rows = [row for number, drawn in enumerate(units) for row in unit(number, drawn[0], "policy", "")]
    load = [sum(_tokens(slot) for slot in lane if not slot.idle) for lane in deal(rows, 50, "padded", size)]
    largest = max((sum(drawn[0]) for drawn in units), default=0)
    assert max(load) - min(load) <= largest


def _tokens(slot: Slot) -> int:
    return sum(len(row.token_ids) for row in slot.rows)


def test_the_package_runs_as_a_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sparring", "--version"],
        capture_output=True, text=True, check=False, env=os.environ | ENVIRONMENT,
    )  # fmt: skip
    assert done.stdout.startswith("sparring ")


WEIGHTS = re.compile(r"weights ([0-9a-f]{16})")


@pytest.mark.slow
def test_torchrun_plays_stops_and_goes_on_alone(tmp_path: Path) -> None:
    def started(*words: str, ranks: int = 2) -> str:
        module = ["-m", "torch.distributed.run", "--nproc-per-node", str(ranks)] if ranks > 1 else []
        done = subprocess.run(
            [sys.executable, *module, "-m", "sparring", *words], cwd=tmp_path,
            capture_output=True, text=True, check=False, timeout=200,
            env=os.environ | {"OMP_NUM_THREADS": "1", "SPARRING_DB": f"sqlite:///{tmp_path}/ranks.db"},
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    changes = {"training.steps": 3, "training.trainers.warmup.until": 1, "training.trainers.critic.until": 2,
               "training.trainers.ppo.after": 1, "training.trainers.ppo.until": 2, "evaluation.every": 0,
               "training.trainers.preference.after": 2, "rollout.episodes": 4, "rollout.picks": 4}  # fmt: skip
    settings = [word for key, value in changes.items() for word in ("-s", f"{key}={value}")]
    halted = started("run", "sft-ppo-dpo", *settings, "-s", "budget.tokens=1")
    assert "r1 is stopped after step 1 of 3" in halted  # its budget is spent
    alone = started("resume", "r1", ranks=1)
    assert "r1 goes on from step 1" in alone and "r1 is stopped after step 2 of 3" in alone
    studied = started("train", "--offline", "--from", "r1", "-s", "training.steps=2", "-s", "budget.tokens=null")
    assert "r2 is done after step 2 of 2" in studied
    assert len({found for text in (halted, alone, studied) for found in WEIGHTS.findall(text)}) == 3


@pytest.mark.slow
def test_one_process_touches_nothing_of_fsdp() -> None:
    program = "import sys, sparring.training.session; sys.exit('torch.distributed.fsdp' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False, env=os.environ | ENVIRONMENT).returncode == 0
    assert current().size == 1
