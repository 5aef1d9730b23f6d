"""Write docs/parts.md: every part of pyproject.toml with its docstring, and its options as its Config declares them.

python tools/part_pages.py            write the page
python tools/part_pages.py --check    say whether it is fresh, exit status 1 when it is not
"""

from __future__ import annotations

import importlib
import inspect
import json
import re
import sys
import tomllib
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, NamedTuple

from pydantic import BaseModel
from pydantic.fields import FieldInfo

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "parts.md"
HEAD = """\
<!-- written by tools/part_pages.py from the code's docstrings; do not edit -->
# Parts

Everything a scenario can name, by kind. A part is written as its name, or as a mapping with `kind:` and its options
beside it: `curriculum: {kind: sec, rate: 0.3}`. How updates are made from these parts is told in
[training.md](training.md), the other keys of a scenario in [scenario.md](scenario.md).

Formulas: R is a reward, A an advantage, pi the policy, pi_old the policy that sampled, r = pi / pi_old; sg[...] has no
gradient; means and deviations are over the group unless said otherwise.
"""
KINDS = {
    "objective": ("Objectives", "`training.objective`: a name for an advantage, a loss and group stages that belong "
                  "together. What the scenario says itself wins, option by option."),
    "advantage": ("Advantages", "`training.advantage`, or `advantage` of a trainer `rl`: from the rewards of a group "
                  "to what each turn, or each token, is pulled by."),
    "loss": ("Losses", "`training.loss`, or `loss` of a trainer `rl`. All are one policy loss under different "
             "defaults: a preset lists what it sets otherwise, and every other option of `policy_gradient` can be set "
             "beside it."),
    "group_stage": ("Group stages", "`group.stages`, or `stages` of a trainer: applied in order before advantages are "
                    "taken."),
    "trainer": ("Trainers", "`training.trainers.NAME`: what makes training rows of played turns. When each takes part "
                "(`after`, `until`, `every`, `when`, `weight`) is told in "
                "[training.md](training.md#several-trainers-in-one-run)."),
    "curriculum": ("Curricula", "`curriculum`: which task parameters are practised next."),
    "environment": ("Environments", "`environment`: the world. Your own: [environments.md](environments.md)."),
    "wrapper": ("Wrappers", "An option of any environment under its own name, `environment: {kind: code, retry: "
                "{attempts: 3}}`; `null` is none."),
    "task_source": ("Task sources", "`tasks`: where tasks come from when the graph proposes none."),
    "engine": ("Engines", "`engine`, or `roles.NAME.engine` for a role that is not trained: what samples."),
    "role": ("Roles", "`roles.NAME.kind`: how a role's words are read."),
    "reward": ("Rewards", "`roles.NAME.reward`: what a turn earns."),
    "condition": ("Conditions", "`if` in `graph.edges`: when an edge is taken."),
    "graph": ("Graphs", "`graph`: who speaks after whom. `sparring graph FILE` draws the graph of a scenario."),
    "embedder": ("Embedders", "`sparring index build SOURCE --dense EMBEDDER`: what makes vectors of passages."),
    "rule": ("Rules", "What a line of a rubric may say to be checked by rule."),
}  # fmt: skip
NAMES: dict[Any, str] = {
    bool: "`true`, `false`", int: "whole number", float: "number", str: "text", Path: "path", Any: "anything",
}  # fmt: skip
LABEL = re.compile(r"(Formula|Source|Gradient): ?")
FORMULA = re.compile(r"[LA] = |grad J = ")
# Options that no Config explains yet, in the words of this page.
WORDS = {
    ("environment", "code"): {
        "sandbox": "the isolation tier; see [sandbox.md](sandbox.md)",
        "workers": "sandboxes at once",
    },
    ("advantage", "cross_group"): {"eps": "added to the deviation"},
    ("trainer", "rl"): {
        "advantage": "part, in place of `training.advantage`",
        "loss": "part, in place of `training.loss`",
        "stages": "parts, in place of `group.stages`",
    },
    ("trainer", "sft"): {
        "centre": "the success rate that weighs most under `weigh: utility`",
        "width": "how fast the weight falls off around it",
    },
    ("curriculum", "sec"): {
        "rate": "how fast an arm's value follows the news",
        "temperature": "of the draw among arms; lower is greedier",
    },
}


class Part(NamedTuple):
    """A registered part under its kind and name."""

    kind: str
    name: str
    value: Any

    @property
    def config(self) -> type[BaseModel] | None:
        """Its options, if it has a Config."""
        return getattr(self.value, "Config", None)

    @property
    def link(self) -> str:
        """A link to where the page describes it."""
        return f"[`{self.name}`](#{_anchor(self.title)})"

    @property
    def title(self) -> str:
        """The heading above it."""
        return f"{self.kind.replace('_', ' ')} `{self.name}`"


def parts() -> dict[str, dict[str, Part]]:
    """Every entry point of pyproject.toml, by kind and name, imported from where it points to."""
    points = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    found: dict[str, dict[str, Part]] = {}
    for kind in KINDS:
        named = points.get(f"sparring.{kind}", {})
        found[kind] = {name: Part(kind, name, _imported(named[name])) for name in sorted(named, key=_order)}
    return found


def page() -> str:
    """The whole page as Markdown."""
    every = parts()
    contents = "\n".join(
        f"| [{title}](#{title.lower().replace(' ', '-')}) | {_names(every[kind])} |"
        for kind, (title, _) in KINDS.items()
    )
    sections = "\n\n".join(section(kind, every[kind]) for kind in KINDS)
    return f"{HEAD}\n| kind | parts |\n|---|---|\n{contents}\n\n{sections}\n"


def section(kind: str, found: Mapping[str, Part]) -> str:
    """One kind: a table where its parts are one line each, else a heading per part."""
    title, about = KINDS[kind]
    top = [f"## {title}", about]
    if not any(_has_more(part) for part in found.values()):
        lines = [f"| `{name}` | {_cell(_markdown(_summary(part)))} |" for name, part in found.items()]
        return "\n\n".join([*top, "\n".join(["| name | meaning |", "|---|---|", *lines])])
    shared = _shared(found)
    if shared:
        top.append(f"### {_shared_title(kind)}")
        top += [f"**{_listed(_own(base))}.** {_markdown(inspect.getdoc(base) or '')}" for base in shared]
    return "\n\n".join([*top, *(described(part, found, shared) for part in found.values())])


def described(part: Part, found: Mapping[str, Part], shared: list[type[BaseModel]]) -> str:
    """One part: first line, prose, formula, source and gradient, options."""
    blocks = [f"### {part.title}", _markdown(_summary(part))]
    prose, facts = _read(part)
    blocks += [_markdown(paragraph) for paragraph in prose]
    if part.kind == "objective":
        facts["Stands for"] = _yaml({key: value for key, value in part.value().items() if value})
    if facts:
        blocks.append("\n".join(f"* {label}: {_fact(label, text)}" for label, text in facts.items()))
    return "\n\n".join([*blocks, *options(part, found, shared)])


def options(part: Part, found: Mapping[str, Part], shared: list[type[BaseModel]]) -> list[str]:
    """The blocks about a part's options: a table with their prose, or what a preset sets otherwise."""
    config = part.config
    if config is None or not config.model_fields:
        return []
    base = _preset_of(part, found)
    if base is not None and base.config is not None:
        theirs = base.config.model_fields
        other = [f"`{_yaml({name: _value(field)})[1:-1]}`" for name, field in config.model_fields.items()
                 if _default(field) != _default(theirs[name])]  # fmt: skip
        return [f"Sets, of the options of {base.link}: {', '.join(other) or 'nothing otherwise'}."]
    blocks, elsewhere = [_table(config)], list[str]()
    for one in config.__mro__:
        if not (isinstance(one, type) and issubclass(one, BaseModel)) or not _own(one):
            continue
        owner = next((other for other in found.values() if other.config is one and other.name != part.name), None)
        if one is config or not (owner or one in shared):
            blocks.append(_markdown(inspect.getdoc(one) or ""))
        elif owner is not None:
            blocks.append(f"{_listed(_own(one))}: see {owner.link}.")
        else:
            here, there = config.model_fields, one.model_fields
            same = [name for name in _own(one) if here[name].annotation == there[name].annotation]
            elsewhere = [*same, *elsewhere]
    if config.__doc__ and not _own(config) and inspect.getdoc(config) != inspect.getdoc(config.__base__):
        blocks.insert(1, _markdown(inspect.getdoc(config) or ""))
    words = WORDS.get((part.kind, part.name), {})
    blocks += [" ".join(f"`{name}`: {text}." for name, text in words.items())] if words else []
    if elsewhere:
        title = _shared_title(part.kind)
        blocks.append(f"{_listed(elsewhere)}: see [{title[0].lower()}{title[1:]}](#{_anchor(title)}).")
    for name, field in config.model_fields.items():
        for model in _models(field.annotation):
            blocks += [f"`{name}` holds:", _table(model), _markdown(inspect.getdoc(model) or "")]
    return blocks


def unexplained(part: Part) -> list[str]:
    """Options that neither the docstrings of its Config nor ``WORDS`` name."""
    config = part.config
    if config is None:
        return []
    bases = [one for one in config.__mro__ if isinstance(one, type) and issubclass(one, BaseModel) and _own(one)]
    text = " ".join(inspect.getdoc(one) or "" for one in bases)
    words = WORDS.get((part.kind, part.name), {})
    return [name for name in _fields(config) if f"``{name}``" not in text and name not in words]


def needless() -> list[tuple[str, str, str]]:
    """Entries of ``WORDS`` whose option is gone, or is explained by its Config by now."""
    every = parts()
    found = []
    for (kind, name), words in WORDS.items():
        part = every[kind].get(name)
        config = part.config if part is not None else None
        text = " ".join(inspect.getdoc(one) or "" for one in config.__mro__) if config is not None else ""
        for option in words:
            if config is None or option not in config.model_fields or f"``{option}``" in text:
                found.append((kind, name, option))
    return found


def _imported(point: str) -> Any:
    module, _, name = point.partition(":")
    return getattr(importlib.import_module(module), name)


def _order(name: str) -> tuple[bool, str]:
    return name != "policy_gradient", name  # the base first, its presets after it


def _names(found: Mapping[str, Part]) -> str:
    if any(_has_more(part) for part in found.values()):
        return ", ".join(part.link for part in found.values())
    return ", ".join(f"`{name}`" for name in found)


def _has_more(part: Part) -> bool:
    prose, facts = _read(part)
    return bool(prose or facts or (part.config is not None and part.config.model_fields))


def _listed(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _shared_title(kind: str) -> str:
    return f"Options that several {KINDS[kind][0].lower()} have"


def _shared(found: Mapping[str, Part]) -> list[type[BaseModel]]:
    """Bases with options of their own that the Configs of several parts have, and that are no part's Config."""
    configs = {part.config for part in found.values() if part.config is not None}
    count: dict[type[BaseModel], int] = {}
    for config in configs:
        for base in config.__mro__[1:]:
            if isinstance(base, type) and issubclass(base, BaseModel) and _own(base) and base not in configs:
                count[base] = count.get(base, 0) + 1
    return sorted((base for base, n in count.items() if n > 1), key=lambda base: (-count[base], base.__name__))


def _own(model: type[BaseModel]) -> list[str]:
    """The options a class declares first itself, not those it only gives another default."""
    above = {name for base in model.__mro__[1:] for name in getattr(base, "model_fields", {})}
    return [name for name in model.model_fields if name in model.__annotations__ and name not in above]


def _preset_of(part: Part, found: Mapping[str, Part]) -> Part | None:
    """The part of which this one is other defaults only."""
    config = part.config
    for other in found.values():
        theirs = other.config
        if config is None or theirs is None or theirs is config or not issubclass(config, theirs):
            continue
        if config.model_fields.keys() == theirs.model_fields.keys():
            return other
    return None


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """Models inside an annotation, but not references to parts."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel) and annotation.__name__ != "Ref":
        yield annotation
    for argument in typing.get_args(annotation):
        yield from _models(argument)


def _fields(config: type[BaseModel]) -> dict[str, FieldInfo]:
    """Options by the names YAML has for them."""
    return {field.alias or name: field for name, field in config.model_fields.items()}


def _table(config: type[BaseModel]) -> str:
    lines = [f"| `{name}` | {_default(field)} | {_cell(_takes(field))} |" for name, field in _fields(config).items()]
    return "\n".join(["| option | default | takes |", "|---|---|---|", *lines])


def _value(field: FieldInfo) -> Any:
    value = field.get_default(call_default_factory=True)
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else value


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = _value(field)
    return "absent" if value is None else f"`{_yaml(value)}`"


def _yaml(value: Any) -> str:
    """Plain data on one line, as people write it in YAML."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_yaml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_yaml, value)) + "]"
    if isinstance(value, str) and re.fullmatch(r"[A-Za-z_][\w./ -]*", value):
        return value
    return str(value) if isinstance(value, float) else json.dumps(value)


def _takes(field: FieldInfo) -> str:
    """What an option takes, in words."""
    return f"{_kind_of(field.annotation)}{_bounds(field)}"


def _kind_of(annotation: Any) -> str:
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _kind_of(inner[0])
    if origin is typing.Literal:
        return ", ".join(f"`{choice}`" for choice in inner)
    if origin in (typing.Union, UnionType):
        named = [_kind_of(one) for one in inner if one is not NoneType]
        return " or ".join(named) if len(named) < 3 else "text, number or truth value"
    if origin in (tuple, list) and inner:
        if origin is tuple and Ellipsis not in inner:
            return f"list of {len(inner)}: {_kind_of(inner[0])}"
        return f"list: {_kind_of(inner[0])}"
    if origin is not None:
        return f"mapping: {_kind_of(inner[0])} to {_kind_of(inner[1])}" if len(inner) == 2 else "mapping"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "part" if annotation.__name__ == "Ref" else "mapping"
    return NAMES.get(annotation, getattr(annotation, "__name__", str(annotation)))


def _bounds(field: FieldInfo) -> str:
    signs = {"gt": "above", "ge": "from", "lt": "below", "le": "to"}
    found = [
        f"{sign} {limit:g}"
        for data in field.metadata
        for key, sign in signs.items()
        if (limit := getattr(data, key, None)) is not None
    ]
    return f" {' '.join(found)}" if found else ""


def _summary(part: Part) -> str:
    """The whole first paragraph: a first line that goes on is one sentence."""
    text = inspect.cleandoc(getattr(part.value, "__doc__", None) or "")
    return " ".join(text.split("\n\n")[0].split())


def _read(part: Part) -> tuple[list[str], dict[str, str]]:
    """What follows the first line: paragraphs of prose, and formula, source and gradient by name."""
    text = inspect.cleandoc(getattr(part.value, "__doc__", None) or "")
    prose: list[str] = []
    facts: dict[str, str] = {}
    for paragraph in text.split("\n\n")[1:]:
        if paragraph.startswith(">>>"):
            continue
        label, held = "", list[str]()
        for line in paragraph.splitlines():
            found = LABEL.match(line)
            if found:
                label = found[1]
            elif not label and not held and FORMULA.match(line):
                label = "Formula"
            if label:
                facts[label] = f"{facts.get(label, '')} {line[found.end() :] if found else line}".strip()
            else:
                held.append(line)
        if held:
            prose.append(" ".join(held))
    if "Formula" in facts:
        prose[:0] = _prose_after(facts)
    order = ("Formula", "Gradient", "Source")
    if part.kind == "objective" and prose:
        facts["Formula"] = prose.pop(0)
    return prose, {label: facts[label] for label in order if label in facts}


def _prose_after(facts: dict[str, str]) -> list[str]:
    """Sentences after the formula's own, taken off it: ``L = ... . Turns are trained ...``."""
    formula, *rest = re.split(r"\. (?=[A-Z][a-z]+ |A [a-z]+'?s? label|``|w is )", facts["Formula"])
    facts["Formula"] = formula
    return [". ".join(rest)] if rest else []


def _fact(label: str, text: str) -> str:
    plain = text.rstrip(".")
    if label in ("Formula", "Stands for"):
        return f"`{plain.replace('``', '')}`"
    return _markdown(plain)


def _markdown(text: str) -> str:
    """reStructuredText's double backticks as Markdown's single ones; paragraphs on one line each."""
    paragraphs = [" ".join(paragraph.split()) for paragraph in text.split("\n\n")]
    return "\n\n".join(_starless(paragraph.replace("``", "`")) for paragraph in paragraphs if paragraph)


def _starless(text: str) -> str:
    """``*``, ``<`` and ``_`` outside code keep their meaning as letters."""
    pieces = re.split(r"(`[^`]*`|\[[^\]`]*\]\([^)]*\))", text)
    return "".join(piece if at % 2 else re.sub(r"([*]|<(?=[\w/!?])|(?<!\w)_|_(?!\w))", r"\\\1", piece)
                   for at, piece in enumerate(pieces))  # fmt: skip


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _anchor(heading: str) -> str:
    return heading.lower().replace("`", "").replace(" ", "-")


if __name__ == "__main__":
    wanted = page()
    if "--check" in sys.argv[1:]:
        fresh = PAGE.exists() and PAGE.read_text() == wanted
        print("docs/parts.md is fresh" if fresh else "docs/parts.md is stale: python tools/part_pages.py")
        sys.exit(0 if fresh else 1)
    PAGE.write_text(wanted)
    print(f"{PAGE}: {sum(map(len, parts().values()))} parts")
