"""The built-in model's shape and tokenizer: a byte-level, Qwen3-shaped policy small enough for two CPU cores.

How it is taught to start is in ``training/pretrain.py``; the weights ship beside this file in ``tiny/``.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparring.scenarios.errors import EngineError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

FOLDER = Path(__file__).parent / "tiny"

PAD, SYSTEM, USER, ASSISTANT, END = "<|pad|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"
SPECIALS = (PAD, SYSTEM, USER, ASSISTANT, END)
# One token each, so that structure costs a byte model one step instead of nine. Plain text to every other tokenizer.
TAGS = ("<think>", "</think>", "<answer>", "</answer>", "<verdict>", "</verdict>")

CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message.role }}|>{{ message.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)

SHAPE: dict[str, Any] = {
    "hidden_size": 128,
    "intermediate_size": 384,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "max_position_embeddings": 1024,
}


def byte_alphabet() -> list[str]:
    """The character that byte-level BPE uses for each of the 256 bytes, in byte order (GPT-2's table)."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    extra = iter(range(256, 512))
    return [chr(byte) if byte in plain else chr(next(extra)) for byte in range(256)]


def build_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer whose id for every byte is the byte's value; specials and tags follow from 256 on."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE(vocab={char: byte for byte, char in enumerate(byte_alphabet())}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in SPECIALS])
    core.add_tokens([AddedToken(text, special=False, normalized=False) for text in TAGS])
    fast: Any = PreTrainedTokenizerFast  # its constructor is untyped
    tokenizer: PreTrainedTokenizerFast = fast(
        tokenizer_object=core, pad_token=PAD, eos_token=END, clean_up_tokenization_spaces=False, model_max_length=1024
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def build_model(seed: int = 0) -> PreTrainedModel:
    """A freshly initialised Qwen3 of ``SHAPE``, float32, tied embeddings, drawn from its own generator."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    tokenizer = build_tokenizer()
    config = Qwen3Config(
        **SHAPE,
        vocab_size=272,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
        dtype="float32",
    )
    with torch.random.fork_rng(devices=[]):  # the global generator is nobody's property
        torch.manual_seed(seed)
        return Qwen3ForCausalLM(config)


def load_model(folder: Path) -> PreTrainedModel:
    """The model in ``folder``, float32, for more teaching; raises ``EngineError`` when the folder holds none."""
    from transformers import Qwen3ForCausalLM

    if not (folder / "config.json").is_file():
        raise EngineError(f"{folder} is not a model folder (no config.json in it)")
    model: PreTrainedModel = Qwen3ForCausalLM.from_pretrained(folder, dtype="float32")
    return model
