"""Write docs/recipes-matrix.md: every recipe for two steps with every environment, or why they do not go together.

    python tools/recipe_matrix.py [RECIPE ...]     run these (all without a name) and write the page
    python tools/recipe_matrix.py --first ...      with the first options of each environment alone: a third of the time
    python tools/recipe_matrix.py --show RECIPE    run one and print what came of it

What is swapped is the environment, the prompts (`any/...`, which read nothing of a particular environment) and the
parameters that the curriculum moves. What a pair gave is kept in docs/recipes-matrix.json.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from sparring.agents.templates import names as prompt_names
from sparring.scenarios.errors import ContractBroken, MissingExtra, ScenarioError, SparringError, UnknownPart
from sparring.scenarios.load import from_resolved
from sparring.scenarios.ref import Ref
from sparring.scenarios.registry import environments, make, roles
from sparring.storage.queries import steps
from sparring.storage.store import Store
from sparring.training.cli.recipes import book
from sparring.training.cli.recipes.book import Recipe, recipes
from sparring.training.cli.running import hush

ROOT = Path(__file__).resolve().parent.parent
PAGE, DATA = ROOT / "docs" / "recipes-matrix.md", ROOT / "docs" / "recipes-matrix.json"
NEEDED: Mapping[str, Sequence[Mapping[str, Any]]] = {"verifiers": ({"id": "gsm8k"},)}  # what cannot be without options
RAN, NOT, FAILED = "runs", "incompatible", "failed"
CLEAR = (ScenarioError, UnknownPart, MissingExtra)
HEAD = """\
<!-- written by tools/recipe_matrix.py from runs; do not edit -->
# Recipes and environments

Every [recipe](recipes.md) was run for two steps of the built-in model with every environment, each with the options it
is checked with. The recipe's environment was replaced, its prompts by those of the set `any`, which read nothing of a
particular environment, and the parameters its curriculum moves by the environment's own. A tick is a run in which no
episode broke; a letter is the reason the software itself gave; an empty cell was not run.
"""


class Came(NamedTuple):
    """What came of a pair: ``runs``, ``incompatible`` or ``failed``, and why."""

    what: str
    why: str = ""


def worlds(first: bool = False) -> list[tuple[str, dict[str, Any]]]:
    """Every environment of ours with each set of options it is checked with, or with the ``first`` of them."""
    found: list[tuple[str, dict[str, Any]]] = []
    for name in environments.names():
        kind = environments.get(name)
        if kind.__module__.startswith("sparring."):
            uses = kind.examples or NEEDED.get(name, ({},))
            found += [(name, dict(options)) for options in (uses[:1] if first else uses)]
    return found


def called(name: str, options: Mapping[str, Any]) -> str:
    """An environment with its options, as the page has it."""
    said = ", ".join(
        f"{key}: {value if isinstance(value, str) else json.dumps(value)}" for key, value in options.items()
    )
    return f"{name} {{{said}}}" if said else name


def swapped(recipe: Recipe, name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe's scenario in another environment, two short steps of it. Raises ``SparringError``."""
    data: dict[str, Any] = json.loads(json.dumps(recipe.written))
    own = data["environment"] if isinstance(data["environment"], dict) else {"kind": data["environment"]}
    kept = {key: own[key] for key in ("retry",) if key in own}  # a wrapper over any environment
    parameters = _parameters(name, options)
    data["environment"] = {"kind": name, **options, **kept}
    data.pop("tasks", None)
    data["roles"] = {key: _generally(key, role or {}) for key, role in data["roles"].items()}
    if isinstance(data.get("graph"), dict):
        for node in data["graph"].get("nodes", {}).values():
            _reprompted(node)
    curriculum = data.get("curriculum", "random")
    curriculum = {"kind": curriculum} if isinstance(curriculum, str) else curriculum
    if "arms" in curriculum or len(curriculum) == 1:
        arms = {key: values[: 1 + (not at)] for at, (key, values) in enumerate(parameters.items())}
        data["curriculum"] = {key: value for key, value in curriculum.items() if key != "arms"}
        data["curriculum"] |= {"arms": arms} if arms else {}
    data["rollout"] = {"episodes": 2, "picks": 2, "max_broken": 1.0}
    data["training"] = {**data.get("training", {}), "steps": 2}
    data |= {"evaluation": {"every": 0}, "canary": {"every": 0}, "policy": {"model": "builtin:tiny"}, "budget": {}}
    data.pop("health", None)
    return data


def _parameters(name: str, options: Mapping[str, Any]) -> dict[str, list[Any]]:
    """What a curriculum may move there; nothing where the options do not even make an environment."""
    try:
        with closing(make(environments, Ref.model_validate({"kind": name, **options}))) as world:
            return {key: list(values) for key, values in world.parameters.items()}
    except ValidationError:  # told when the scenario is read
        return {}


def _generally(key: str, role: dict[str, Any]) -> dict[str, Any]:
    """A role with a prompt of the set ``any`` and few tokens."""
    kind = role.get("kind", key)
    contract = roles.get(kind).contract if kind in roles.names() else ""
    there = {
        "answer": "solver", "text": "text", "program": "teacher", "verdict": "critic", "rubric": "rubric_writer",
        "question": "questioner",
    }  # fmt: skip
    sampling = {**role.get("sampling", {}), "max_tokens": 12}
    return {**role, "prompt": f"any/{there.get(contract, 'judge')}", "sampling": sampling}


def _reprompted(node: dict[str, Any]) -> None:
    """A node's own prompt from the set ``any`` where that has one of this name, else the role's."""
    prompt = node.pop("prompt", None)
    if prompt is not None and (own := f"any/{Path(prompt).stem}") in prompt_names():
        node["prompt"] = own


def tried(recipe: Recipe, name: str, options: Mapping[str, Any], folder: Path) -> Came:
    """Run a pair, and say what came of it."""
    try:
        scenario = from_resolved({**swapped(recipe, name, options), "source": str(recipe.file)})
        with closing(Store(str(folder / "run.db"))) as store:
            return _ran(scenario, store)
    except CLEAR as error:
        return Came(NOT, _brief(error))
    except ContractBroken as error:
        return Came(NOT if "cannot" in str(error) or "takes no" in str(error) else FAILED, _brief(error))
    except Exception as error:  # the page says what failed and how; one pair must not end the others
        return Came(FAILED, f"{type(error).__name__}: {_brief(error)}")


def _ran(scenario: Any, store: Store) -> Came:
    from sparring.training.loop import learn
    from sparring.training.session import Allowed, start

    session = start(scenario, store, "tools/recipe_matrix.py", Allowed(verifier=True))
    try:
        asyncio.run(learn(session))
        done = [step.metrics for step in steps(store, session.run) if step.step > 0]
    finally:
        session.close()
    refused = {key for metrics in done for key in metrics if key.startswith("refused/")}
    if all(metrics.get("episodes") for metrics in done) and refused == {"refused/no_proposals"}:
        return Came(NOT, "takes no proposed tasks (no_proposals)")
    broken = sum(metrics.get("broken") or 0.0 for metrics in done)
    if broken:
        from sparring.storage.queries import stored_episodes

        notes = {one.episode.error for one in stored_episodes(store, session.run, range(1, 3)) if one.episode.error}
        first = min(notes, default="")
        if " were wanted and " in first:  # the environment has too few different tasks, and the run says so
            return Came(NOT, _brief(Exception(first.removeprefix("ContractBroken: "))))
        return Came(FAILED, f"{broken:.0f} episodes broke: {first}")
    return Came(RAN) if len(done) == 2 else Came(FAILED, f"{len(done)} steps")


def _brief(error: Exception) -> str:
    """The first problem an error tells, without where it stands in a file that nobody wrote."""
    line = str(error).splitlines()[0].removeprefix("stored scenario: ").partition("; known: ")[0]
    line = line.replace(f"{ROOT}/", "").replace(".src/sparring/", "")
    return line if len(line) < 240 else f"{line[:240]}..."


def matrix(chosen: Sequence[Recipe], first: bool = False) -> Iterator[tuple[str, str, Came]]:
    """Every pair of these recipes with every environment."""
    for recipe in chosen:
        for name, options in worlds(first):
            with tempfile.TemporaryDirectory() as folder:
                yield recipe.slug, called(name, options), tried(recipe, name, options, Path(folder))


def page(found: Mapping[str, Mapping[str, Sequence[str]]]) -> str:
    """The page from what every pair gave, by recipe and environment."""
    reasons: dict[str, str] = {}
    slugs = sorted(found)
    rows = []
    for world in sorted({world for slug in slugs for world in found[slug]}):
        cells = []
        for slug in slugs:
            what, why = found[slug].get(world, ("", ""))
            said = f"{what}: {why}" if what == FAILED else why
            cells.append("✓" if what == RAN else reasons.setdefault(said, _letter(reasons)) if what else "")
        rows.append(f"| `{world}` | {' | '.join(cells)} |")
    head = f"| environment | {' | '.join(f'`{slug}`' for slug in slugs)} |\n|---|{'---|' * len(slugs)}"
    said = "\n".join(f"- **{letter}** {why}" for why, letter in reasons.items())
    pairs = [one for of in found.values() for one in of.values()]
    counted = ", ".join(f"{sum(one[0] == what for one in pairs)} {what}" for what in (RAN, NOT, FAILED))
    return f"{HEAD}\n{len(pairs)} pairs: {counted}.\n\n{head}\n" + "\n".join(rows) + f"\n\n{said}\n"


def _letter(reasons: Mapping[str, str]) -> str:
    count = len(reasons)
    return (chr(96 + count // 26) if count >= 26 else "") + chr(97 + count % 26)


def main(words: Sequence[str]) -> int:
    """Run what is named and write the page; 1 when a pair failed."""
    warnings.simplefilter("ignore")
    hush()
    show = "--show" in words
    named = [word for word in words if not word.startswith("-")]
    options = [word for word in words if word.startswith("-")]
    if wrong := [word for word in options if word not in ("--show", "--first")]:
        print(f"{wrong[0]}: no such option; there are --first and --show", file=sys.stderr)
        return 2
    try:
        chosen = list(map(book.recipe, named)) if named else recipes()
    except SparringError as error:
        print(error, file=sys.stderr)
        return 2
    found: dict[str, dict[str, Sequence[str]]] = json.loads(DATA.read_text()) if DATA.is_file() else {}
    bad = 0
    for slug, world, came in matrix(chosen, "--first" in words):
        found.setdefault(slug, {})[world] = list(came)
        bad += came.what == FAILED
        print(f"{slug} {world}: {came.what} {came.why}", flush=True)
    if not show:
        order = [called(name, options) for name, options in worlds()]
        here = {one.slug for one in recipes()}
        found = {s: {w: of[w] for w in order if w in of} for s, of in sorted(found.items()) if s in here}
        DATA.write_text(json.dumps(found, indent=0, ensure_ascii=False) + "\n")
        PAGE.write_text(page(found))
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
