"""What must fit between engines and roles: who may be trained through what, who may truncate. No engine is built here.

An engine says of itself, as class attributes: ``untrainable`` (why what it says cannot be trained on, "" when it can)
and ``truncates`` (whether roles that are not trained may use top_p, top_k and min_p).
"""

from __future__ import annotations

from typing import Any

from .parts import part
from .problems import KeyPath, Problems
from .registry import engines
from .schema import RoleSpec, Sampling, Scenario

TRUNCATING = ("top_p", "top_k", "min_p")


def check_engines(scenario: Scenario, problems: Problems) -> None:
    """Note roles that are trained through an engine which cannot be, and truncated sampling where it cannot be done."""
    for name, role in scenario.roles.items():
        if role.trainable:
            _check_trained(role, name, problems)
        else:
            _check_frozen(role, name, scenario, problems)
    why = untrainable(scenario.engine.kind, problems)
    spoken = [name for name, role in scenario.roles.items() if role.trainable and role.engine is None]
    if why and spoken:
        kind, several = scenario.engine.kind, ", ".join(spoken)
        problems.add(
            ("engine",),
            f"{kind!r} cannot serve a policy that is trained ({several}): {why}. Move it to roles.NAME.engine of roles "
            "with trainable: false and take transformers or vllm here, or train no role",
        )


def untrainable(kind: str, problems: Problems) -> str:
    """Why what an engine says cannot be trained on; "" when it can, or when nobody knows it."""
    engine = _engine(kind, problems)
    return str(getattr(engine, "untrainable", ""))


def check_sampling(sampling: Sampling, path: KeyPath, problems: Problems) -> None:
    """Note what a trained role's sampling must not be."""
    for key in TRUNCATING:
        if getattr(sampling, key) is not None:
            problems.add(
                (*path, key),
                "is refused for a trainable role: the engine's log-probs would be of a truncated distribution; "
                "remove it or set trainable: false",
            )
    if sampling.temperature == 0:
        problems.add(
            (*path, "temperature"), "0 makes every sample of a trainable role equal, with nothing to compare; raise it"
        )


def _check_trained(role: RoleSpec, name: str, problems: Problems) -> None:
    if role.engine is not None:
        why = untrainable(role.engine.kind, problems)
        problems.add(
            ("roles", name, "engine"),
            f"a trainable role speaks through the policy's own engine{f', and {why}' if why else ''}; remove it or set "
            "trainable: false",
        )
    check_sampling(role.sampling, ("roles", name, "sampling"), problems)


def _check_frozen(role: RoleSpec, name: str, scenario: Scenario, problems: Problems) -> None:
    ref = role.engine or scenario.engine
    engine = _engine(ref.kind, problems)
    # an engine that shares the policy's tensors keeps log-probs of the whole distribution, unless it says otherwise
    if getattr(engine, "truncates", not hasattr(engine, "serve")):
        return
    for key in TRUNCATING:
        if getattr(role.sampling, key) is not None:
            problems.add(
                ("roles", name, "sampling", key),
                f"is refused: the role speaks through the engine {ref.kind!r}, which draws from the policy's whole "
                "distribution; remove it or give the role an engine of its own that truncates",
            )


def _engine(kind: str, problems: Problems) -> Any:
    """The engine's class; what is wrong with its name or its import has been told where its options were filled in."""
    return part(engines, kind, ("engine",), Problems(problems.sources))
