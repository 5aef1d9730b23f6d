"""LoRA adapters that come and go while a model is served, by name, from folders as PEFT lays them out."""

from __future__ import annotations

import warnings
import zlib
from pathlib import Path
from typing import Any

from sparring.scenarios.errors import EngineError
from sparring.training.lora import DEFAULT, FILE, Adapters


class Changing(Adapters):
    """The adapters of a served model as they are now; "" is the policy's own where it has one, else none at all."""

    def use(self, name: str | None) -> None:
        """Turn ``name`` on, or all off. Raises ``EngineError`` when it is unknown."""
        super().use(None if name == "" and DEFAULT not in self.names else name)


def changing(module: Any) -> Changing | None:
    """The adapters of ``module``; ``None`` when it has none."""
    return Changing(module) if getattr(module, "peft_config", None) else None


def put_in(module: Any, name: str, folder: Path) -> None:
    """Load the adapter in ``folder`` into the model under ``name``; in the place of one that has this name.

    Raises ``EngineError`` for a folder that holds none, or one of another model; the model is then as it was.
    """
    import torch

    if not (folder / FILE).is_file() or not (folder / "adapter_config.json").is_file():
        # other files could hold pickles, which run what they say
        raise EngineError(f"{folder} holds no LoRA adapter: adapter_config.json and {FILE} are needed")
    try:
        import peft  # type: ignore[import-not-found, unused-ignore]  # noqa: F401  # asked for, not used by name
    except ImportError as error:
        raise EngineError("LoRA adapters need peft: pip install 'sparring[lora]'") from error
    take_out(module, name)
    try:
        with (
            torch.random.fork_rng(devices=[]),
            warnings.catch_warnings(),
        ):  # peft draws before it reads; the global generator is nobody's
            torch.manual_seed(zlib.crc32(name.encode()))
            warnings.filterwarnings("ignore", message="Already found a `peft_config`")  # several are meant
            module.load_adapter(str(folder), adapter_name=name, adapter_kwargs={"local_files_only": True})
    except Exception as error:
        take_out(module, name)
        raise EngineError(f"the adapter in {folder} does not fit the served model: {str(error)[:300]}") from error
    module.requires_grad_(False)


def take_out(module: Any, name: str) -> None:
    """Remove the adapter called ``name``, if there is one."""
    if name in (getattr(module, "peft_config", None) or {}):
        module.delete_adapter(name)
