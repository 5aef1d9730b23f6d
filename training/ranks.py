"""Several processes under torchrun: rank 0 plays, stores and leads, the others hold shards and follow its words.

Every rank has all rows of a step and takes every decision alike; only forward and backward passes are dealt out.
"""

from __future__ import annotations

import copy
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from sparring.scenarios.errors import EngineError, SparringError, TrainingStopped

from .batch import Batch, Layout, collate, micro_batches
from .rows import Row

if TYPE_CHECKING:
    from .advantages.base import TokenAdvantage
    from .learner import Learner
    from .model import Model

MINUTES = "SPARRING_DEADLINE_MINUTES"
PATIENCE = timedelta(days=365)  # followers wait for the next word as long as rank 0 plays; torchrun ends them with it


class Alone:
    """One process: nothing is dealt, gathered or said."""

    rank, size = 0, 1

    @property
    def here(self) -> str:
        """Which rank this is, as the end of a sentence; nothing for one process."""
        return f" on rank {self.rank}" if self.size > 1 else ""

    def share(self, model: Model, keep: bool = False) -> Model:
        """The model as it is."""
        return model

    def optimizer(self, inner: Any) -> Any:
        """The optimiser as it is."""
        return inner

    def batches(self, model: Model, rows: Sequence[Row], tokens: int) -> Iterator[tuple[Batch, bool]]:
        """Every micro-batch; none of them is idle."""
        for batch in model.batches(rows, tokens):
            yield batch, False

    def everyone(self, value: Any, place: str = "") -> list[Any]:
        """What every rank has in place of ``value``, by rank."""
        return [value]

    def together(
        self, learner: Learner, rows: Sequence[Row], shapes: Mapping[str, TokenAdvantage]
    ) -> AbstractContextManager[None]:
        """A step that nobody else takes part in."""
        return nullcontext()

    def tell(self, word: str, **facts: Any) -> None:
        """Nobody listens."""

    def load_reference(self, learner: Learner, read: Callable[[Model], None]) -> None:
        """Have ``read`` fill the reference."""
        assert learner.reference is not None  # the caller looked
        read(learner.reference)


_current: list[Alone] = [Alone()]


def current() -> Alone:
    """The ranks this process works with: itself alone unless ``joined``."""
    return _current[-1]


def launched() -> bool:
    """Whether torchrun, or a launcher that speaks like it, started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 and "RANK" in os.environ


@contextmanager
def joined() -> Iterator[Ranks]:
    """Be one of the ranks for the block. Rank 0 says stop at its end."""
    ranks = Ranks.join(float(os.environ.get(MINUTES, "10")))
    _current.append(ranks)
    try:
        yield ranks
    except BaseException as error:
        ranks.report(error)
        raise
    finally:
        _current.pop()
        ranks.close()


class Ranks(Alone):
    """This process among ``size``. A collective that takes longer than ``minutes`` fails and names who is missing."""

    def __init__(self, rank: int, size: int, store: Any, minutes: float) -> None:
        import torch.distributed as dist

        self.rank, self.size, self.minutes = rank, size, minutes
        self._store = store
        self.masters: Any = None
        self._count, self._broken = 0, False
        self._rooms: dict[int, Any] = {}
        deadline = timedelta(minutes=minutes)
        self._objects = dist.new_group(backend="gloo", timeout=deadline)
        self._words = dist.new_group(backend="gloo", timeout=PATIENCE if rank else deadline)

    @classmethod
    def join(cls, minutes: float) -> Ranks:
        """Meet the other ranks as the environment says (RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT, LOCAL_RANK)."""
        import torch
        import torch.distributed as dist
        from torch.distributed.distributed_c10d import PrefixStore
        from torch.distributed.rendezvous import rendezvous

        backend = "gloo"
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
            backend = "cpu:gloo,cuda:nccl"
        deadline = timedelta(minutes=minutes)
        store, rank, size = next(iter(rendezvous("env://", timeout=deadline)))
        dist.init_process_group(backend, store=PrefixStore("all", store), rank=rank, world_size=size, timeout=deadline)
        return cls(rank, size, PrefixStore("places", store), minutes)

    def share(self, model: Model, keep: bool = False) -> Model:
        """``model`` in shards, with the weights of rank 0.

        ``keep`` leaves rank 0 its whole copy, for the engine and for checkpoints: beside its shards that rank holds all
        weights once, and twice while the shards are cut. Models over one module stay over one.
        """
        from .shards import Sharded, WholeMasters, make_room

        with self.watched(f"sharing the weights of {type(model.module).__name__}"):
            source, room = self._rooms.get(id(model.module), (None, None))
            if room is None:
                source, room = model.module, make_room(model, keep and self.rank == 0)
                self._rooms[id(source)] = source, room
            shared = Sharded(model, room)
            if keep:
                self.masters = WholeMasters(self, shared, model)
                model._masters = self.masters
            return shared

    def optimizer(self, inner: Any) -> Any:
        """``inner`` with a state that is read and written whole, on rank 0."""
        from .shards import WholeOptimizer

        return WholeOptimizer(inner, self)

    def batches(self, model: Model, rows: Sequence[Row], tokens: int) -> Iterator[tuple[Batch, bool]]:
        """This rank's micro-batches, and whether each only keeps the others company: its loss must count as 0."""
        slots = deal(rows, tokens, model.layout, self.size)[self.rank]
        for number, slot in enumerate(slots, 1):
            self.at(f"micro-batch {number} of {len(slots)}")
            yield collate(slot.rows, model.device, model.layout), slot.idle

    def everyone(self, value: Any, place: str = "an exchange of figures") -> list[Any]:
        """What every rank has in place of ``value``, by rank."""
        import torch.distributed as dist

        self.at(place)
        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, value, group=self._objects)
        return found

    @contextmanager
    def together(
        self, learner: Learner, rows: Sequence[Row], shapes: Mapping[str, TokenAdvantage]
    ) -> Iterator[None]:
        """A step of all ranks; after it rank 0's whole copy has the new weights."""
        from .shards import gather

        self.tell("step", rows=rows, shapes=shapes, losses=learner.losses, spec=learner.spec, steps=learner.steps)
        with self.watched(f"step {learner.steps + 1}"):
            yield
            gather(learner.model, learner.whole, self)

    def tell(self, word: str, **facts: Any) -> None:
        """Rank 0 says a word to all; on the others, which act on it already, nothing happens."""
        if self.rank == 0:
            with self.watched(f"saying {word!r}"):
                self._pass_on([word, facts])

    def hear(self) -> tuple[str, dict[str, Any]]:
        """The next word of rank 0."""
        with self.watched("waiting for a word"):
            word, facts = self._pass_on([None, None])
        return word, facts

    def load_reference(self, learner: Learner, read: Callable[[Model], None]) -> None:
        """Have ``read`` fill a whole copy on rank 0, and hand it out to everyone's shards of the reference."""
        twin = copy.copy(learner.whole)
        twin.module = copy.deepcopy(twin.module)
        read(twin)
        self.tell("reference")
        self.renew_reference(learner, twin)

    def renew_reference(self, learner: Learner, twin: Model | None = None) -> None:
        """Every rank's part in ``load_reference``; only rank 0 has the ``twin``."""
        from .shards import hand_out

        assert learner.reference is not None  # a run with a renewed reference has one
        with self.watched("handing out the reference"):
            hand_out(learner.reference.module.parameters(), None if twin is None else twin.module.parameters())

    def at(self, place: str) -> None:
        """Leave word of where this rank is, for those who may have to wait for it."""
        self._count += 1
        self._store.set(f"at/{self.rank}", f"{self._count} {place}")

    def report(self, error: BaseException) -> None:
        """Leave word of why this rank ends, for those who wait for it."""
        if self._broken or isinstance(error, SystemExit):
            return
        self._broken = True
        if not is_collective(error):
            line = (str(error).strip() or type(error).__name__).splitlines()[0]
            self._store.set(f"failed/{self.rank}", f"{type(error).__name__}: {line}")
            self._read(f"failed/{self.rank}")  # a set is only sent; now it is there before this rank's connections end

    @contextmanager
    def watched(self, place: str) -> Iterator[None]:
        """Turn a collective that failed or took too long into an ``EngineError`` that names a rank."""
        self.at(place)
        began = time.monotonic()
        try:
            yield
        except (SparringError, TrainingStopped):
            raise
        except Exception as error:
            self.report(error)
            if not is_collective(error):
                raise
            raise EngineError(self._blame(time.monotonic() - began)) from error
        except BaseException:  # an interrupt in the middle: the others are elsewhere, and would not hear a word
            self._broken = True
            raise

    def close(self) -> None:
        """Rank 0 says stop, unless the ranks lost each other; then all part."""
        import torch.distributed as dist

        if not self._broken:
            with suppress(EngineError):
                self.tell("stop")
        if not self._broken:
            dist.destroy_process_group()

    def _pass_on(self, message: list[Any]) -> list[Any]:
        import torch.distributed as dist

        dist.broadcast_object_list(message, src=0, group=self._words)
        return message

    def _blame(self, waited_s: float) -> str:
        """Who is missing: a rank that said why it ended, or else those that came least far."""
        others = [rank for rank in range(self.size) if rank != self.rank]
        failed = {rank: self._read(f"failed/{rank}") for rank in others}
        said = [f"rank {rank} failed ({why})" for rank, why in failed.items() if why]
        if not said:
            places = {rank: self._read(f"at/{rank}").partition(" ") for rank in others}
            count = {rank: int(place[0] or 0) for rank, place in places.items()}
            last = [rank for rank in others if count[rank] == min(count.values())]
            said = [f"rank {rank} did not answer (last seen at: {places[rank][2] or 'nothing'})" for rank in last[:4]]
        here = self._read(f"at/{self.rank}").partition(" ")[2]
        return (
            f"{', '.join(said)}; rank {self.rank} waited {waited_s:.0f} s at: {here}. A wait ends after "
            f"{self.minutes:g} minutes ({MINUTES}). The last whole step is safe: `sparring resume latest`, with or "
            "without torchrun"
        )

    def _read(self, key: str) -> str:
        return self._store.get(key).decode() if self._store.check([key]) else ""


def is_collective(error: BaseException) -> bool:
    """Whether the error is the network's or a deadline's, not this rank's own."""
    import torch.distributed as dist

    known = (dist.DistError,)
    return isinstance(error, known) or (isinstance(error, RuntimeError) and "gloo" in str(error).lower())


def follow(ranks: Ranks, build: Callable[[dict[str, Any]], Learner]) -> None:
    """Do what rank 0 says until it says stop. ``build`` makes the learner of a resolved scenario."""
    learner: Learner | None = None
    while True:
        word, facts = ranks.hear()
        if word == "stop":
            return
        if word == "scenario":
            learner = build(facts["scenario"])
            continue
        assert learner is not None  # the scenario is always the first word
        if word == "step":
            learner.losses, learner.spec, learner.steps = facts["losses"], facts["spec"], facts["steps"]
            try:
                learner.step(facts["rows"], facts["shapes"])
            except TrainingStopped:
                continue  # rank 0 stops for the same reason, and says so
        elif word == "state":
            learner.optimizer.collect()
        elif word == "reference":
            ranks.renew_reference(learner)
        elif word == "masters":
            ranks.masters.collect()
        elif word == "weights":
            ranks.masters.hand_out(facts["masters"])
        elif word == "restore":
            learner.optimizer.restore(facts["outline"])


@dataclass(frozen=True)
class Slot:
    """One micro-batch of one rank; an idle one repeats rows of another so that all ranks take the same turns."""

    rows: Sequence[Row]
    idle: bool = False


def deal(rows: Sequence[Row], tokens: int, layout: Layout, size: int) -> list[list[Slot]]:
    """Micro-batches by rank: units whole, loads as even in tokens as whole units allow, and turns that line up.

    All ranks have the same number of slots, and the n-th is for the same loss and adapter on each, so that the same
    weights get gradients. A rank that runs out repeats the shortest unit of that kind, idle.
    """
    kinds: dict[tuple[str, ...], dict[int, list[Row]]] = {}
    for row in rows:
        units = kinds.setdefault((row.loss, row.adapter, *sorted(row.streams)), {})
        units.setdefault(row.unit, []).append(row)
    lanes: list[list[Slot]] = [[] for _ in range(size)]
    total = [0] * size
    for _, units in sorted(kinds.items()):
        dealt: list[list[Row]] = [[] for _ in range(size)]
        load = [0] * size
        by_length = sorted(units.values(), key=_tokens, reverse=True)
        for unit in by_length:
            rank = min(range(size), key=lambda one: (load[one], total[one]))
            dealt[rank] += unit
            load[rank] += _tokens(unit)
            total[rank] += _tokens(unit)
        cut = [list(micro_batches(part, tokens, layout)) for part in dealt]
        turns = max(map(len, cut))
        for lane, parts in zip(lanes, cut, strict=True):
            lane += [Slot(part) for part in parts]
            lane += [Slot(by_length[-1], idle=True)] * (turns - len(parts))
    return lanes


def _tokens(unit: Sequence[Row]) -> int:
    return sum(len(row.token_ids) for row in unit)
