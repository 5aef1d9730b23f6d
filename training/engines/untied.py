"""Model folders whose output matrix is written out though the model ties it to its embeddings.

vLLM 0.32 on a CPU packs that matrix apart when it starts, and a reload of a tied model leaves the old one in place.

    python -m sparring.training.engines.untied builtin:tiny served-model
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

HEAD = "lm_head.safetensors"


def export(model: Any, tokenizer: Any, folder: Path) -> Path:
    """Write ``model`` to ``folder`` as one that ties nothing: the same function, and a head of its own."""
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    config = folder / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"tie_word_embeddings": False}, indent=2))
    if tied(model):
        add_head(model, folder)
    return folder


def add_head(model: Any, folder: Path) -> None:
    """Put the output matrix beside the weights in ``folder``, where a server that ties nothing looks for it."""
    from safetensors.torch import save_file

    weight = model.get_output_embeddings().weight.detach().cpu().clone()
    save_file({"lm_head.weight": weight}, folder / HEAD, metadata={"format": "pt"})


def tied(model: Any) -> bool:
    """Whether reading and writing share one matrix."""
    return bool(model.config.get_text_config().tie_word_embeddings)


def ties(folder: str) -> bool:
    """Whether the model folder ``folder`` can be read here and says that its two matrices are one."""
    try:
        config = json.loads((Path(folder) / "config.json").read_text())
        return bool(config.get("tie_word_embeddings", True))
    except (OSError, ValueError, AttributeError):
        return False


def main() -> None:
    """MODEL FOLDER: export a model that ``policy.model`` could name."""
    from sparring.scenarios.schema import PolicySpec
    from sparring.training.policy import load_policy

    name, folder = sys.argv[1:]
    policy = load_policy(PolicySpec(model=name), Path.cwd())
    print(export(policy.model, policy.tokenizer, Path(folder)))


if __name__ == "__main__":
    main()
