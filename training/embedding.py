"""Dense vectors by a local model: any encoder that transformers loads, mean-pooled. For ``sparring index --dense``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sparring.scenarios.errors import EngineError

if TYPE_CHECKING:
    from sparring.envs.search.dense import Vectors

LONGEST = 512  # tokens of a text that are read


class LocalEmbedder:
    """A model folder or hub name; the vector of a text is the mean of its last hidden states (Sentence-BERT)."""

    def __init__(self, argument: str) -> None:
        """Loads the model to the CPU; raises ``EngineError`` when it cannot be loaded."""
        from transformers import AutoModel, AutoTokenizer

        self.name = f"transformers:{argument}"
        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(argument)
            self._model: Any = AutoModel.from_pretrained(argument, dtype="float32").eval()
        except (OSError, ValueError, ImportError) as error:
            said = str(error).splitlines()[0]
            raise EngineError(
                f"no embedding model {argument!r} ({said:.150}); name a folder, or a model of the hub"
            ) from error
        if self._tokenizer.pad_token is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token

    def embed(self, texts: Sequence[str]) -> Vectors:
        """One row per text, (texts, hidden size), float32."""
        import torch

        batch = self._tokenizer(list(texts), padding=True, truncation=True, max_length=LONGEST, return_tensors="pt")
        with torch.inference_mode():
            states = self._model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
        kept = batch["attention_mask"].unsqueeze(-1)
        mean = (states * kept).sum(1) / kept.sum(1).clamp(min=1)
        rows: Vectors = mean.float().numpy()
        return rows
