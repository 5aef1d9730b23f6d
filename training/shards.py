"""The policy in FSDP2 shards: read through one room, gathered into a whole copy, its optimiser's state likewise.

Gradients are summed over ranks, not averaged: every denominator is in the rows' coefficients already.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.utils._pytree import tree_map_only

from sparring.scenarios.errors import EngineError

from .batch import Batch
from .head import Vocabulary
from .lora import Adapters
from .model import Model, Scores

if TYPE_CHECKING:
    from .ranks import Ranks


class Room(torch.nn.Module):
    """A model and its heads under one root: whatever is called in here finds the root's weights whole."""

    def __init__(self, module: Any, heads: Any) -> None:
        super().__init__()
        self.module, self.heads = module, heads
        self.adapters: Adapters | None = None
        self.open = False

    def forward(self, call: Callable[[], Any]) -> Any:
        """What ``call`` gives, its tensors no views: FSDP2 hangs the gathering before the backward pass on them."""
        self.open = True
        try:
            return tree_map_only(Tensor, torch.clone, call())
        finally:
            self.open = False


class Sharded(Model):
    """A ``Model`` whose weights lie in shards; ``score`` is a collective, to be called by all ranks alike.

    Weights are whole only while a block is read: each is gathered before its forward and its backward pass.
    """

    def __init__(self, like: Model, room: Room) -> None:
        alike = replace(like.probe, shared=False)  # ranks with and without common beginnings would gather differently
        super().__init__(room.module, (), like.layout, like.base, alike)
        self.heads, self.adapters, self.room, self.chunk = room.heads, room.adapters, room, like.chunk

    def settle(self) -> None:
        """As ``Model.settle``, each rank its own part."""
        pairs = zip(self.weights(), self.parameters(), strict=True)
        apart = [(_local(weight), _local(master)) for weight, master in pairs if weight is not master]
        with torch.no_grad():
            for weight, master in apart:
                weight.copy_(master)

    def score(
        self,
        batch: Batch,
        entropy: bool = False,
        heads: Sequence[str] = (),
        against: Model | None = None,
        divergence: Literal["forward", "reverse"] = "forward",
    ) -> Scores:
        """As ``Model.score``, with every rank's own batch."""
        if self.adapters is not None:  # before any weight is whole: switching touches what is trained
            self.adapters.use(None if self.base else batch.adapter)
        plain = super().score

        def call() -> tuple[Any, ...]:
            found = plain(batch, entropy, heads, against, divergence)
            return found.logprob_N, found.entropy_N, found.heads, found.divergence_N

        return Scores(*self.room(call))

    def hidden(self, batch: Batch) -> Tensor:
        """As ``Model.hidden``: also of another model that a distribution is compared with."""
        if self.room.open:
            return super().hidden(batch)
        states_ND: Tensor = self.room(partial(super().hidden, batch))
        return states_ND

    @property
    def vocabulary(self) -> Vocabulary:
        """As ``Model.vocabulary``; outside the room a whole copy, which every rank must ask for."""
        found = super().vocabulary
        if self.room.open:
            return found
        bias_V = None if found.bias_V is None else _whole(found.bias_V)
        return replace(found, weight_VD=_whole(found.weight_VD), bias_V=bias_V)


def make_room(model: Model, keep: bool) -> Room:
    """Shard the weights of ``model`` over all ranks, as rank 0 has them; ``keep`` shards a copy.

    Each block of the family (``_no_split_modules``) is a group of its own; embeddings and the last norm are the root's.
    Raises ``EngineError`` for trained float16 weights, whose loss scale each rank would find for itself.
    """
    if any(weight.dtype == torch.float16 for weight in model.weights()):
        raise EngineError("float16 weights are trained by one process only; set policy.dtype: bfloat16 or float32")
    source = (copy.deepcopy(model.module), copy.deepcopy(model.heads)) if keep else (model.module, model.heads)
    room = Room(*source)
    for tensor in (*room.parameters(), *room.buffers()):
        dist.broadcast(tensor.detach(), 0)
    mesh = init_device_mesh(model.device.type, (dist.get_world_size(),))
    sums = MixedPrecisionPolicy(reduce_dtype=torch.float32)  # gradients of 16-bit weights are summed in 32
    for part in (*_odd(room), *_blocks(room), room):
        fully_shard(part, mesh=mesh, reshard_after_forward=True, mp_policy=sums)
    for part in room.modules():
        if isinstance(part, FSDPModule):
            part.set_gradient_divide_factor(1.0)
            part.set_force_sum_reduction_for_comms(True)  # gloo knows no other, and NCCL's is then exact too
    room.adapters = Adapters.of(room.module)
    return room


def _odd(room: Room) -> list[Any]:
    """Modules that hold weights of another type than the body's (heads, adapters): a group has only one."""
    body = next(room.module.parameters()).dtype
    return [part for part in room.modules() if any(own.dtype != body for own in part.parameters(recurse=False))]


def _blocks(room: Room) -> list[Any]:
    names = {name for part in room.modules() for name in getattr(part, "_no_split_modules", None) or ()}
    return [part for part in room.modules() if type(part).__name__ in names]


def gather(model: Model, whole: Model, ranks: Ranks) -> None:
    """Copy the trained weights, heads and adapters included, from shards into rank 0's whole model.

    A collective. It moves every trained weight to every rank once, one tensor at a time, so beside the whole copy the
    cost in memory is the largest single tensor.
    """
    ranks.at("gathering the weights")
    with torch.no_grad():
        for shard, full in zip(model.weights(), whole.weights(), strict=True):
            found = _whole(shard)
            if ranks.rank == 0:  # elsewhere the model was sharded where it lay, and nothing is whole
                full.copy_(found)


def hand_out(shards: Iterable[Tensor], whole: Iterable[Tensor] | None) -> None:
    """Give every rank its part of the ``whole`` tensors, which only rank 0 has. A collective."""
    mine = list(shards)
    theirs = [None] * len(mine) if whole is None else list(whole)
    with torch.no_grad():
        for shard, full in zip(mine, theirs, strict=True):
            _local(shard).copy_(_local(_cut(full, shard)))


def _whole(tensor: Tensor) -> Tensor:
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def _local(tensor: Tensor) -> Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _cut(full: Tensor | None, like: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """This rank's part of what rank 0 has in ``full``, laid out as ``like``."""
    assert isinstance(like, DTensor)
    dtype = dtype or like.dtype
    source = torch.empty(like.shape, dtype=dtype, device=like.device) if full is None else full.detach()
    return distribute_tensor(source.to(like.device, dtype), like.device_mesh, like.placements)


class WholeOptimizer:
    """An optimiser over shards whose state is read and written whole, as one process would have it.

    So a checkpoint of any number of ranks goes on with any other. Reading costs the memory of the whole state on rank
    0's CPU, which the checkpoint needs anyway.
    """

    def __init__(self, inner: Any, ranks: Ranks) -> None:
        self.inner, self.ranks = inner, ranks
        self.zero_grad, self.step = inner.zero_grad, inner.step

    @property
    def param_groups(self) -> Any:
        """The rates and whose they are."""
        return self.inner.param_groups

    def state_dict(self) -> dict[str, Any]:
        """The whole state, gathered from every rank; said by rank 0."""
        self.ranks.tell("state")
        return self.collect()

    def load_state_dict(self, state: Any) -> None:
        """Hand out a whole state; said by rank 0."""
        outline = {index: {name: _outline(value) for name, value in slots.items()} for index, slots in
                   state["state"].items()}
        self.ranks.tell("restore", outline=outline)
        self.restore(outline, state["state"])

    def collect(self) -> dict[str, Any]:
        """Every rank's part in ``state_dict``."""
        with self.ranks.watched("gathering the optimiser's state"):
            found = self.inner.state_dict()
            state: dict[int, dict[str, Any]] = {}
            for index, slots in found["state"].items():
                full = {name: _whole(value) for name, value in slots.items()}
                if self.ranks.rank == 0:
                    state[index] = {
                        name: value.cpu() if isinstance(value, Tensor) else value for name, value in full.items()
                    }
            return {"state": state, "param_groups": found["param_groups"]}

    def restore(self, outline: Any, whole: Any = None) -> None:
        """Every rank's part in ``load_state_dict``; only rank 0 has the ``whole`` state."""
        with self.ranks.watched("handing out the optimiser's state"):
            weights = [weight for group in self.param_groups for weight in group["params"]]
            state = {
                index: {
                    name: value if not isinstance(value, torch.dtype)
                    else _cut(whole and whole[index][name], weights[index], value)
                    for name, value in slots.items()
                }
                for index, slots in outline.items()
            }  # fmt: skip
            self.inner.load_state_dict({"state": state, "param_groups": self.inner.state_dict()["param_groups"]})


class WholeMasters:
    """The ``masters`` of rank 0's whole copy: read from everyone's shards, and handed out to them with the weights."""

    def __init__(self, ranks: Ranks, model: Model, whole: Model) -> None:
        self.ranks, self.model, self.whole = ranks, model, whole

    def apart(self) -> dict[str, Tensor]:
        """As ``Masters.apart``, whole and on the CPU; said by rank 0."""
        if not self.model.masters.apart():
            return {}
        self.ranks.tell("masters")
        return self.collect()

    def load(self, saved: Mapping[str, Tensor] | None) -> None:
        """As ``Masters.load``, after the whole copy was given its weights; said by rank 0."""
        self.ranks.tell("weights", masters=saved is not None)
        self.hand_out(saved is not None, saved)

    def collect(self) -> dict[str, Tensor]:
        """Every rank's part in ``apart``."""
        with self.ranks.watched("gathering the master weights"):
            found = {name: _whole(master) for name, master in self.model.masters.apart().items()}
            return {name: master.cpu() for name, master in found.items()} if self.ranks.rank == 0 else {}

    def hand_out(self, masters: bool, saved: Mapping[str, Tensor] | None = None) -> None:
        """Every rank's part in ``load``; only rank 0 has what was ``saved``."""
        with self.ranks.watched("handing out the weights"), torch.no_grad():
            hand_out(self.model.weights(), self.whole.weights() if self.ranks.rank == 0 else None)
            for weight, master in zip(self.model.weights(), self.model.parameters(), strict=True):
                if weight is not master:
                    _local(master).copy_(_local(weight))
            for name, master in self.model.masters.apart().items() if masters else ():
                _local(master).copy_(_local(_cut(None if saved is None else saved[name], master)))
            self.model.settle()


def _outline(value: Any) -> Any:
    """A tensor's type where it lies in shards, else the value itself, which every rank has alike."""
    return value.dtype if isinstance(value, Tensor) and value.dim() else value
