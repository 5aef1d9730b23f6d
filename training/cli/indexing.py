"""``sparring index``: make an index of documents, look at one, search it. Needs no model library unless asked for."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from .options import AsJson
from .output import print_json

Index = Annotated[str, typer.Argument(help="An index folder, or pydoc.")]
TOLD = 10  # files left out that are told one by one


def build(
    source: Annotated[str, typer.Argument(help="A folder of texts, a .jsonl file with text (id, title), or pydoc.")],
    to: Annotated[Path | None, typer.Option("--to", help="Where the index goes; beside the source by default.")] = None,
    dense: Annotated[
        str | None,
        typer.Option(help="Vectors too: a model's name or folder, http(s)://HOST/v1#MODEL, or spelling."),
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Put it in place of the index that is there.")] = False,
    as_json: AsJson = False,
) -> None:
    """Make an index of a folder, a JSON Lines file or the standard library's documentation."""
    from sparring.envs.search.documents import read_corpus
    from sparring.envs.search.index import build_index
    from sparring.envs.search.pydoc import PYDOC, pydoc_folder, read_pydoc

    began = time.perf_counter()
    corpus = read_pydoc() if source == PYDOC else read_corpus(Path(source))
    folder = to or (pydoc_folder() if source == PYDOC else Path(f"{source.rstrip('/')}.index"))
    # the documentation's own place is a cache: building it again is always meant
    manifest = build_index(corpus, folder, dense, replace or (source == PYDOC and to is None))
    seconds = time.perf_counter() - began
    if as_json:
        print_json({"path": str(folder), "seconds": round(seconds, 3), **_figures(manifest)})
        return
    vectors = f", {manifest.dimensions} numbers per passage from {manifest.dense}" if manifest.dense else ""
    typer.echo(
        f"{folder}: {manifest.documents} documents in {manifest.passages} passages{vectors}, "
        f"{manifest.bytes:,} bytes, {seconds:.1f} s"
    )
    _tell_skipped(manifest.skipped)


def show(path: Index, as_json: AsJson = False) -> None:
    """Tell what an index holds, after checking its files."""
    opened = _open(path)
    manifest = opened.manifest
    if as_json:
        print_json({"path": str(opened.path), **_figures(manifest)})
        return
    typer.echo(f"{opened.path}")
    typer.echo(f"  from {manifest.source}, content {manifest.content}")
    typer.echo(f"  {manifest.documents} documents, {manifest.passages} passages, {manifest.characters:,} characters")
    typer.echo(f"  {manifest.bytes:,} bytes; vectors: {manifest.dense or 'none'}")
    _tell_skipped(manifest.skipped)


def search(
    path: Index,
    query: Annotated[str, typer.Argument(help="What to look for.")],
    k: Annotated[int, typer.Option("-k", min=1, max=100, help="Documents shown.")] = 5,
    way: Annotated[str, typer.Option(help="bm25, dense or hybrid.")] = "bm25",
    as_json: AsJson = False,
) -> None:
    """Search an index as the environment does."""
    from sparring.envs.search.engines import IndexEngine
    from sparring.envs.search.shown import NOTHING, snippet

    if way not in ("bm25", "dense", "hybrid"):
        raise typer.BadParameter(f"{way!r}; bm25, dense or hybrid", param_hint="--way")
    hits = IndexEngine(_open(path), way).search(query, k)  # type: ignore[arg-type]  # one of the three, as just seen
    if as_json:
        print_json({"hits": [hit._asdict() for hit in hits]})
        return
    for hit in hits:
        shown = re.sub(r"[^\x20-\x7e\xa0-\U0010ffff]", " ", snippet(hit.passage, query, 120))
        typer.echo(f"{hit.score:7.3f}  {hit.id}: {shown}")
    if not hits:
        typer.echo(NOTHING)


def add_to(app: typer.Typer) -> None:
    """Put these commands on ``app``."""
    group = typer.Typer(no_args_is_help=True, help="Make, show and search an index of documents.")
    for command in (build, show, search):
        group.command(command.__name__)(command)
    app.add_typer(group, name="index")


def _open(path: str) -> Any:
    from sparring.envs.search.pydoc import open_corpus

    return open_corpus(Path(path))


def _figures(manifest: Any) -> dict[str, Any]:
    plain: dict[str, Any] = manifest.model_dump(exclude={"files"})
    return plain | {"bytes": manifest.bytes, "content": manifest.content}


def _tell_skipped(skipped: list[list[str]]) -> None:
    if not skipped:
        return
    typer.echo(f"  left out: {len(skipped)} files")
    for name, reason in skipped[:TOLD]:
        typer.echo(f"    {name}: {reason}")
    if len(skipped) > TOLD:
        typer.echo(f"    and {len(skipped) - TOLD} more")
