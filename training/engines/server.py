"""What is asked of a token server before a run begins: everything that would spoil the run is an error at the door.

It is there, has the model, reads as much as is needed, spells every token as the trainer does, and gives log-probs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sparring.agents.engine import Completion, Request
from sparring.scenarios.errors import EngineError
from sparring.scenarios.schema import Sampling

from . import wire
from .http import Client, Lost, Reply
from .untied import tied, ties

if TYPE_CHECKING:
    from sparring.training.policy import Policy

MODELS, DETOKENIZE, PAUSED, VERSION = "/v1/models", "/detokenize", "/is_paused", "/version"
LOAD, UNLOAD = "/v1/load_lora_adapter", "/v1/unload_lora_adapter"
BLOCK = 2048  # token ids compared per call
LENGTHS = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length")
COLD, SURE = 0.05, -0.05  # a temperature that sharpens, and a log-prob below which sharpening must show
START = "docs/vllm.md has the command that starts a server"


@dataclass(frozen=True)
class Server:
    """What is known of a server: its model, how many tokens that reads, the software's version.

    ``headed``: it is sent the output matrix apart, for the policy ties it and the server is not known to.
    """

    model: str
    context: int
    version: str = ""
    headed: bool = False


async def meet(client: Client, policy: Policy, model: str | None, adapters: bool | None) -> Server:
    """Get to know the server. ``adapters``: it must take LoRA adapters, whole models where false, nothing for ``None``.

    Raises ``EngineError`` for whatever a person must mend first.
    """
    card = _card(await _get(client, MODELS), client, model)
    name = str(card["id"])
    await compare(client, policy.tokenizer, name)
    if adapters is not None:
        await _takes_weights(client, adapters)
    longest = [
        value for value in (card.get("max_model_len"), context_of(policy)) if isinstance(value, int) and value > 0
    ]
    headed = tied(policy.model) and not ties(str(card.get("root", "")))
    server = Server(name, min(longest, default=1 << 20), await _version(client), headed)
    if adapters is not None:
        await _speaks(client, policy, server)
    return server


async def compare(client: Client, tokenizer: Any, model: str) -> None:
    """Hold the server's tokenizer against ``tokenizer``, id by id. Raises ``EngineError`` at the first that differs."""
    for start in range(0, len(tokenizer), BLOCK):
        low, high = start, min(start + BLOCK, len(tokenizer))
        if await _there(client, model, range(low, high)) == _here(tokenizer, range(low, high)):
            continue
        while high - low > 1:
            middle = (low + high) // 2
            half = range(low, middle)
            same = await _there(client, model, half) == _here(tokenizer, half)
            low, high = (middle, high) if same else (low, middle)
        one = range(low, high)
        raise EngineError(
            f"{client.name}: the server at {client.url} has another tokenizer than the policy: the first token that "
            f"differs is {low}, {await _there(client, model, one)!r} there and {_here(tokenizer, one)!r} here. Start "
            "the server with the policy's own model folder, or set policy.model to the server's"
        )


def refused(client: Client, doing: str, reply: Reply | Lost, hint: str = "") -> EngineError:
    """The error for a call that did not do what it should."""
    why = reply.why if isinstance(reply, Lost) else f"HTTP {reply.status} from {client.url}: {reply.said}"
    return EngineError(f"{client.name}: {doing} failed ({why}){'. ' if hint else ''}{hint}")


async def adapters_of(client: Client) -> dict[str, str]:
    """The LoRA adapters the server has, and where each was read from."""
    data = (await _get(client, MODELS)).body
    return {str(card["id"]): str(card.get("root", "")) for card in _cards(data) if card.get("parent")}


async def _get(client: Client, path: str) -> Reply:
    reply = await client.get(path)
    if isinstance(reply, Lost):
        raise EngineError(f"{reply.why}. Start the server first, or correct engine.url; {START}")
    if not reply.ok:
        raise refused(client, f"asking for {path}", reply, "Is this a token server? " + START)
    return reply


def _card(reply: Reply, client: Client, model: str | None) -> dict[str, Any]:
    cards = [card for card in _cards(reply.body) if not card.get("parent")]
    found = [card for card in cards if model in (None, card["id"])]
    if found:
        return found[0]
    has = ", ".join(str(card["id"]) for card in cards) or "none"
    raise EngineError(
        f"{client.name}: the server at {client.url} has no model {model!r}; it has {has}. Set engine.model"
    )


def _cards(body: Any) -> list[dict[str, Any]]:
    data = body.get("data") if isinstance(body, dict) else None
    found = data if isinstance(data, list) else []
    return [card for card in found if isinstance(card, dict) and "id" in card]


def context_of(policy: Policy) -> int:
    """Tokens the policy reads, 0 where its config names no end."""
    config = policy.model.config.get_text_config()
    return next((value for name in LENGTHS if isinstance(value := getattr(config, name, None), int)), 0)


async def _there(client: Client, model: str, ids: Sequence[int]) -> str:
    """The server's text for ``ids``; what it answers instead where it has no such token."""
    reply = await client.post(DETOKENIZE, {"model": model, "tokens": list(ids)}, retried=False)
    if isinstance(reply, Lost):
        raise refused(client, "asking for the server's tokenizer", reply)
    if reply.status in (404, 405, 501):
        raise refused(client, "asking for the server's tokenizer", reply, f"It must answer {DETOKENIZE}; {START}")
    return str(reply.body.get("prompt", "")) if reply.ok and isinstance(reply.body, dict) else f"no text: {reply.said}"


def _here(tokenizer: Any, ids: Sequence[int]) -> str:
    return str(tokenizer.decode(list(ids)))


async def _takes_weights(client: Client, adapters: bool) -> None:
    reply = await (client.post(LOAD, {}, retried=False) if adapters else client.get(PAUSED))
    if isinstance(reply, Lost):
        raise refused(client, "asking whether the server takes weights", reply)
    if reply.status in (404, 405):
        variable = "VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 and --enable-lora" if adapters else "VLLM_SERVER_DEV_MODE=1"
        raise EngineError(
            f"{client.name}: the server at {client.url} takes no new weights: it has no "
            f"{LOAD if adapters else PAUSED}. Start it with {variable}; {START}"
        )


async def _version(client: Client) -> str:
    reply = await client.get(VERSION)
    known = isinstance(reply, Reply) and reply.ok and isinstance(reply.body, dict)
    return str(reply.body.get("version", "")) if known and isinstance(reply, Reply) else ""


async def _speaks(client: Client, policy: Policy, server: Server) -> None:
    """A few tokens, likeliest and nearly so: log-probs must be given, and be those after the temperature."""
    plain, cold = [await _probe(client, policy, server, heat) for heat in (0.0, COLD)]
    for mine, sharpened, one, two in zip(plain.token_ids, cold.token_ids, plain.logprobs, cold.logprobs, strict=False):
        if mine != sharpened:
            return  # from here on they answer different prompts
        if one < SURE:
            if abs(one - two) < 1e-3 * abs(one):
                raise EngineError(
                    f"{client.name}: the server at {client.url} gives log-probs from before the temperature; start it "
                    "with --logprobs-mode processed_logprobs"
                )
            return


async def _probe(client: Client, policy: Policy, server: Server, heat: float) -> Completion:
    tokens = min(8, max(1, server.context - 4))
    request = Request(tuple(policy.tokenizer.encode("0 1 2")[:3]), Sampling(temperature=heat, max_tokens=tokens), 0)
    reply = await client.post(wire.GENERATE, wire.ask(request, server.model, ()), retried=False)
    if isinstance(reply, Lost) or not reply.ok:
        raise refused(client, "sampling a few tokens", reply, f"The server must answer {wire.GENERATE}; {START}")
    return read(client, reply, request, 0)


def read(client: Client, reply: Reply, request: Request, version: int, *, versioned: bool = False) -> Completion:
    """The completion in ``reply``. Raises ``EngineError`` when it is none, or comes without log-probs."""
    try:
        if not isinstance(reply.body, dict):
            raise wire.Malformed("JSON is needed")
        done = wire.read_answer(reply.body, request, version, client.name, versioned=versioned)
    except wire.Malformed as error:
        raise EngineError(
            f"{client.name}: the answer of {client.url}{wire.GENERATE} cannot be read ({error}); is it a server of a "
            f"supported version? {START}"
        ) from error
    if any(value != value for value in done.logprobs):
        raise EngineError(
            f"{client.name}: the server at {client.url} gives no log-probs, and a trained role needs one for every "
            f"token; start it without --max-logprobs 0. {START}"
        )
    return done
