"""The policy as engines that keep a copy fetch it: folders of weights beside the run's checkpoints."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import checkpoint

if TYPE_CHECKING:
    from .learner import Learner

KEPT = 2  # what is being read may be one version old


@dataclass(frozen=True)
class Published:
    """``Weights`` of ``sparring.agents.engine``. ``folder`` is asked each time: a run learns late where it lies."""

    learner: Learner
    tokenizer: Any
    folder: Callable[[], Path]

    @property
    def adapters(self) -> tuple[str, ...]:
        """Names as requests use them; empty where whole models are trained."""
        from .lora import DEFAULT

        found = self.learner.model.adapters
        return () if found is None else tuple("" if name == DEFAULT else name for name in found.names)

    @property
    def module(self) -> Any:
        """The whole model that is trained."""
        return self.learner.whole.module

    def save(self, version: int) -> Path:
        """``version`` as a folder. Raises ``StorageFull`` when the disk refuses."""
        root = self.folder()
        found = checkpoint.publish(root / f"v{version:06d}", self.learner.whole, self.tokenizer)
        for old in sorted(path for path in root.glob("v??????") if path != found)[: -KEPT + 1]:
            shutil.rmtree(old, ignore_errors=True)
        return found
