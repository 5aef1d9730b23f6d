"""Low-rank adapters through PEFT: one for the policy, others for roles that ask for their own, all on one base.

The base is frozen and is its own reference: the same tensors with the adapters off.
"""

from __future__ import annotations

import difflib
import warnings
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparring.scenarios.errors import EngineError

if TYPE_CHECKING:
    from torch import Tensor

    from sparring.scenarios.schema import LoraSpec

DEFAULT = "default"  # what PEFT calls the adapter that rows and requests call ""
FILE = "adapter_model.safetensors"
PREFIX = "base_model.model."  # PEFT's own, so that its loaders know the names


class Adapters:
    """The adapters inside a model, switched in place. At most one is on at a time."""

    def __init__(self, module: Any) -> None:
        from peft.tuners.tuners_utils import BaseTunerLayer  # type: ignore[import-not-found, unused-ignore]

        self.module = module
        self.layers = [layer for layer in module.modules() if isinstance(layer, BaseTunerLayer)]
        self.names = tuple(module.peft_config)
        self._weights = [weight for name, weight in module.named_parameters() if ".lora_" in name]

    @classmethod
    def of(cls, module: Any) -> Adapters | None:
        """The adapters of ``module``; ``None`` when it has none."""
        return cls(module) if getattr(module, "peft_config", None) else None

    @property
    def on(self) -> str | None:
        """The adapter that is on now, ``None`` when all are off: read off the model, which others may switch too."""
        first = self.layers[0]
        return None if first.disable_adapters else str(first.active_adapters[0])

    def use(self, name: str | None) -> None:
        """Turn ``name`` on ("" is the policy's own) or, for ``None``, all off. Raises ``EngineError`` when unknown."""
        wanted = DEFAULT if name == "" else name
        if wanted == self.on:
            return
        if wanted is not None and wanted not in self.names:
            raise EngineError(f"adapter {wanted!r} is unknown; the policy has {', '.join(self.names)}")
        for layer in self.layers:
            if wanted is not None:
                layer.set_adapter(wanted)
            layer.enable_adapters(wanted is not None)
        for weight in self._weights:  # PEFT freezes those that are off; all of them stay the optimiser's
            weight.requires_grad_(True)

    def save(self, folder: Path) -> None:
        """Write every adapter as PEFT lays it out: the policy's own in ``folder``, others in folders of their name."""
        from safetensors.torch import save_file

        for name in self.names:
            where = folder if name == DEFAULT else folder / name
            where.mkdir(exist_ok=True)
            self.module.peft_config[name].save_pretrained(where)
            save_file(self._state(name), where / FILE, metadata={"format": "pt"})

    def load(self, folder: Path) -> None:
        """Read what ``save`` wrote into the adapters."""
        from peft import set_peft_model_state_dict  # type: ignore[import-not-found, unused-ignore]
        from safetensors.torch import load_file

        for name in self.names:
            saved = load_file((folder if name == DEFAULT else folder / name) / FILE)
            found: Any = set_peft_model_state_dict(
                self.module, {key.removeprefix(PREFIX): value for key, value in saved.items()}, adapter_name=name
            )
            if found.unexpected_keys:
                raise EngineError(f"{folder}: adapter {name!r} has other modules than the scenario's policy.lora")

    def tensors(self) -> dict[str, Tensor]:
        """All adapters' tensors, each name led by its adapter's."""
        return {f"{name}/{key}": tensor for name in self.names for key, tensor in self._state(name).items()}

    def _state(self, name: str) -> dict[str, Tensor]:
        from peft import get_peft_model_state_dict

        state = get_peft_model_state_dict(self.module, adapter_name=name)
        return {PREFIX + key: tensor.detach().cpu().contiguous() for key, tensor in state.items()}


def adapt(module: Any, spec: LoraSpec, names: Sequence[str] = ()) -> Adapters:
    """Freeze ``module`` and put adapters in: the policy's own, and one for each of ``names``. They start as nothing.

    Raises ``EngineError`` without PEFT, and for names that are not linear layers of the model.
    """
    import torch

    try:
        from peft import LoraConfig
    except ImportError as error:
        raise EngineError("policy.lora needs peft: pip install 'sparring[lora]'") from error
    found = linear_layers(module)
    wanted = sorted({name.rpartition(".")[2] for name in found}) if spec.modules == "all" else list(spec.modules)
    _check(wanted, found)
    module.requires_grad_(False)
    for name in (DEFAULT, *dict.fromkeys(names)):
        config = LoraConfig(
            r=spec.rank,
            lora_alpha=spec.alpha,  # type: ignore[arg-type, unused-ignore]
            target_modules=wanted,
            lora_dropout=0.0,
            task_type="CAUSAL_LM",
            fan_in_fan_out=any(type(module.get_submodule(layer)).__name__ == "Conv1D" for layer in found),
        )
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():  # the global generator is nobody's property
            torch.manual_seed(zlib.crc32(name.encode()))
            warnings.filterwarnings("ignore", message="Already found a `peft_config`")  # several are meant
            module.add_adapter(config, adapter_name=name)
    adapters = Adapters(module)
    adapters.use("")
    return adapters


def linear_layers(module: Any) -> list[str]:
    """Full names of the layers that can carry an adapter: linear ones, without the output embedding."""
    head = module.get_output_embeddings()
    return [
        name
        for name, layer in module.named_modules()
        if type(layer).__name__ in ("Linear", "Conv1D") and layer is not head
    ]


def _check(wanted: Sequence[str], found: Sequence[str]) -> None:
    short = sorted({name.rpartition(".")[2] for name in found})
    for name in wanted:
        if not any(full == name or full.endswith("." + name) for full in found):
            near = difflib.get_close_matches(name, short, n=3, cutoff=0.3) or short
            raise EngineError(
                f"policy.lora.modules: the model has no linear layer {name!r}; the nearest are {', '.join(near)} "
                "(or all, for every one)"
            )
