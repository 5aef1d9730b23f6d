"""The embedded engine: samples with the trainer's own tensors, in this process.

The sequences of one call are decoded together in ``slots.py``; ``stream()`` is the engine whose calls join in
mid-decode.
"""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

from sparring.agents.engine import Completion, Request, Weights
from sparring.envs.types import Finish
from sparring.scenarios.errors import EngineError

if TYPE_CHECKING:
    import torch

    from sparring.training.lora import Adapters
    from sparring.training.policy import Policy

    from .decode import Decoder
    from .generic import Generic
    from .graphed import Record
    from .slots import Answer, Batch, Slots
    from .stream import Stream


class TransformersEngine:
    """Samples from a Hugging Face model in this process, sharing the trainer's tensors (no copy, no sync).

    Log-probs are nats of the whole distribution at the sampling temperature; the stop token is kept with its log-prob.
    A budget is cut to what the model's context has room for; a turn that ends so is ``Finish.CONTEXT``.
    """

    class Config(BaseModel):
        """``slots``: sequences decoded at once, of each adapter.

        ``copy``: sample from a copy of the weights, refreshed with each update, so that play may go on while the
        trainer changes its own.
        """

        model_config = ConfigDict(frozen=True, extra="forbid")
        slots: int = Field(default=64, ge=1, le=1024)
        copy_: bool = Field(default=False, alias="copy")

    name = "transformers"
    truncates = False

    def __init__(self, model: Any, stop_ids: Sequence[int], config: Config | None = None) -> None:
        from sparring.training.lora import Adapters

        self.config = config or self.Config()
        self.model = twin(model) if self.config.copy_ else model
        self.adapters = Adapters.of(self.model)
        self.decoder, self.note = decoder_for(self.model)
        self.stop_ids = frozenset(stop_ids)
        self.recorder = recorder_for(self.decoder)
        self.policy_version = 0
        self.sampled_tokens = 0
        self._stream: Stream | None = None
        self._kept: dict[str, tuple[Slots, tuple[int, ...]]] = {}  # by adapter, and where its weights lay

    @classmethod
    def serve(cls, config: Config, policy: Policy) -> TransformersEngine:
        """The engine for the shared policy."""
        return cls(policy.model, policy.renderer.stop_ids, config)

    def stream(self) -> Stream:
        """The engine whose calls join in mid-decode; one for all who ask."""
        from .stream import Stream

        if self._stream is None:
            self._stream = Stream(self)
        return self._stream

    @asynccontextmanager
    async def hold(self) -> AsyncIterator[None]:
        """No token is drawn inside; what is being decoded keeps its cache and goes on after."""
        held: AbstractAsyncContextManager[None] = self._stream.hold() if self._stream is not None else nullcontext()
        async with held:
            yield

    @property
    def shares(self) -> bool:
        """Whether it reads tensors that the trainer changes in place."""
        return not self.config.copy_

    async def load(self, version: int, weights: Weights) -> None:
        """Call the weights ``version``. They are in already where the tensors are the trainer's own, else they are
        copied here."""
        async with self.hold():
            if self.model is not weights.module and self.config.copy_:
                pour(weights.module, self.model)
            self.renew(version)

    async def reload(self, folder: Path, version: int) -> None:
        """Read weights from ``folder``: a model as ``transformers`` lays it out, or adapters as PEFT does.

        Raises ``EngineError`` for those of another model; the old ones stay in then.
        """
        async with self.hold():
            read(folder, self.model, self.adapters)
            self.renew(version)

    def renew(self, version: int) -> None:
        """Note that the weights have changed in place, while nothing is drawn."""
        self.policy_version = version
        if self._stream is not None:
            self._stream.renew(version)

    def close(self) -> None:
        """End the stream and give caches back; who still waits gets an error."""
        if self._stream is not None:
            self._stream.close()
        self.forget()

    async def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """One completion per request, in order."""
        return self.sample(requests)

    def sample(self, requests: Sequence[Request]) -> list[Completion]:
        """The same without awaiting: decode until every request has stopped or spent its budget."""
        import torch

        found = self.turned_away(requests)
        places: dict[str, list[int]] = {}
        for place, request in enumerate(requests):
            if place not in found:
                places.setdefault(request.adapter, []).append(place)
        with self._stream.still() if self._stream is not None else nullcontext(), torch.inference_mode():
            for adapter, mine in places.items():
                self.speak_with(adapter)
                batch = self.batch(adapter, lasting=self._stream is None or not self._stream.live)
                for place in mine:
                    batch.put(place, self.answer(requests[place]))
                try:
                    while batch.busy:
                        found |= {place: self.complete(answer) for place, answer in batch.advance()}
                except BaseException:
                    self.forget()  # what is left in its slots must not be handed to anybody
                    raise
        return [found[place] for place in range(len(requests))]

    def batch(self, adapter: str = "", lasting: bool = True) -> Batch:
        """An empty batch of the decoder's kind. Where steps are recorded, the adapter's last one is used again if it is
        free: its recordings are worth more than its memory. One that is not ``lasting`` is nobody else's."""
        from .generic import Generic
        from .slots import Slots
        from .waves import Waves

        if isinstance(self.decoder, Generic):
            return Waves(self.decoder, self.stop_ids, self.config.slots)
        if self.recorder is None:
            return Slots(self.decoder, self.stop_ids, self.config.slots)
        where = tuple(weight.data_ptr() for weight in self.model.parameters())
        found, read_from = self._kept.get(adapter, (None, ()))
        if lasting and found is not None and not found.busy and read_from == where:
            found.refresh()
            return found
        made = Slots(self.decoder, self.stop_ids, self.config.slots, self.recorder(), self._doubt)
        if lasting:
            self._kept[adapter] = made, where
        return made

    def forget(self) -> None:
        """Use no batch again."""
        self._kept.clear()

    def _doubt(self, why: str) -> None:
        self.note = why

    def answer(self, request: Request, told: Callable[[int], None] | None = None) -> Answer:
        """A request as a batch takes it; ``told`` hears of every token as it is drawn."""
        from .slots import Answer

        fitted = request.within(self.decoder.max_length)
        return Answer(fitted, fitted is request, self.policy_version, told)

    def complete(self, answer: Answer) -> Completion:
        """What a sequence that has ended is handed out as."""
        self.sampled_tokens += len(answer.token_ids)
        return answer.complete(self.stop_ids, self.name)

    def turned_away(self, requests: Sequence[Request]) -> dict[int, Completion]:
        """By place: what is told to prompts that leave no room. Raises ``EngineError`` for what cannot be served."""
        for request in requests:
            drawn = request.sampling
            if (drawn.top_p, drawn.top_k, drawn.min_p) != (None, None, None):
                raise EngineError(
                    f"role {request.tag!r}: the embedded engine draws from the whole distribution; "
                    "remove top_p, top_k and min_p from its sampling"
                )
            if not request.prompt_ids:
                raise EngineError(f"role {request.tag!r}: its prompt holds no token, so there is nothing to go on from")
            self._know(request.adapter)
        full = Completion((), (), Finish.CONTEXT, self.policy_version, self.name)
        room = self.decoder.max_length
        return {place: full for place, request in enumerate(requests) if len(request.prompt_ids) >= room}

    def _know(self, adapter: str) -> None:
        if adapter and self.adapters is None:
            raise EngineError(f"adapter {adapter!r} is asked for and the policy has none; set policy.lora")
        if adapter and self.adapters is not None and adapter not in self.adapters.names:
            raise EngineError(f"adapter {adapter!r} is unknown; the policy has {', '.join(self.adapters.names)}")

    def speak_with(self, adapter: str) -> None:
        """Turn this adapter on, and the others off. Raises ``EngineError`` for one that is unknown."""
        if self.adapters is not None:
            self.adapters.use(adapter)


def twin(model: Any) -> Any:
    """A copy with tensors of its own that no optimiser moves."""
    return copy.deepcopy(model).requires_grad_(False)


def pour(source: Any, target: Any) -> None:
    """Copy the tensors of one model into another of its shape, in place."""
    import torch

    with torch.inference_mode(False), torch.no_grad():
        theirs = dict(source.named_parameters()) | dict(source.named_buffers())
        for name, mine in [*target.named_parameters(), *target.named_buffers()]:
            mine.copy_(theirs[name])


def read(folder: Path, model: Any, adapters: Adapters | None) -> None:
    """Fill ``model`` from a folder of weights.

    Raises ``EngineError`` for files that are damaged or of another model; whole models are then left as they were.
    """
    from safetensors import SafetensorError

    try:
        if adapters is not None:
            adapters.load(folder)
        else:
            _read_whole(folder, model)
    except (OSError, RuntimeError, SafetensorError) as error:  # what torch and PEFT say of other shapes, too
        if isinstance(error, EngineError):
            raise
        raise EngineError(f"{folder} does not hold weights of the model that is served: {error}") from error


def _read_whole(folder: Path, model: Any) -> None:
    from safetensors.torch import load_file

    files = sorted(folder.glob("model*.safetensors"))
    saved = {name: tensor for file in files for name, tensor in load_file(file).items()}
    own = model.state_dict()
    there = {own[name].data_ptr() for name in saved if name in own}  # tied tensors are stored once
    odd = [name for name in saved if name not in own or own[name].shape != saved[name].shape]
    odd += [name for name, tensor in own.items() if name not in saved and tensor.data_ptr() not in there]
    if odd:
        what = f"no model*.safetensors in it; {len(own)} tensors are missing" if not files else f"{odd[0]} does not fit"
        raise EngineError(f"{folder} does not hold weights of the model that is served: {what}")
    model.load_state_dict(saved, strict=False)


def decoder_for(model: Any) -> tuple[Decoder | Generic, str]:
    """The fastest decoder that agrees with the model on a probe, and what to know of it ("" for the fused one).

    Raises ``EngineError`` when none does.
    """
    from .decode import FAMILIES, Decoder
    from .generic import Generic

    family = model.config.model_type
    why = f"the fused decoder covers {', '.join(FAMILIES)}"
    if family in FAMILIES:
        fused = Decoder(model)
        try:
            fused.verify(_tolerance(fused.dtype))
            return fused, ""
        except EngineError as error:
            why = str(error)
    generic = Generic(model)
    generic.verify(_tolerance(generic.dtype))
    how = "with its own cache" if generic.cached else "reading everything again for each token"
    return generic, f"{family} is decoded by its own forward pass {how}, which is slower: {why}"


def recorder_for(decoder: Decoder | Generic) -> Callable[[], Record] | None:
    """What makes recordings of decoding steps; ``None`` where steps are taken plainly."""
    from .decode import Decoder
    from .graphed import Capture

    return Capture if isinstance(decoder, Decoder) and decoder.device.type == "cuda" else None


def _tolerance(dtype: torch.dtype) -> float:
    return 1e-4 if dtype.itemsize >= 4 else 0.25
