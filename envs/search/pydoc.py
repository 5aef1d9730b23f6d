"""The corpus every machine has: documentation strings of the standard library of the Python that runs this.

It is read in a child process, so that no module is imported here, and indexed once into a cache folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

from sparring.scenarios.errors import ScenarioError

from . import documents, words
from .documents import Corpus, Document
from .index import Index, build_index, open_index
from .manifest import FORMAT

PYDOC = "pydoc"
READER = Path(__file__).parent / "pydoc_reader.py"
_TIMEOUT = 180  # seconds


def read_pydoc() -> Corpus:
    """Documents by qualified name (``json.dumps``): signature and docstring. Equal for equal Python installations.

    Raises ``ScenarioError`` with the child's last words when it fails.
    """
    with tempfile.TemporaryDirectory() as home:
        environ = {"HOME": home, "PATH": os.defpath, "LANG": "C.UTF-8", "PYTHONHASHSEED": "0", "BROWSER": "true"}
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-B", str(READER)],
            capture_output=True,
            stdin=subprocess.DEVNULL,
            cwd=home,
            env=environ,
            timeout=_TIMEOUT,
            check=False,
        )
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip()[-300:]
        raise ScenarioError(f"the documentation of this Python cannot be read: {said}")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    return Corpus(PYDOC, tuple(Document(row["id"], row["title"], row["text"]) for row in rows))


def cache_folder() -> Path:
    """Where built corpora are kept: ``$XDG_CACHE_HOME/sparring``, or ``~/.cache/sparring``."""
    home = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(home) if home.startswith("/") else Path.home() / ".cache") / "sparring"


def pydoc_folder() -> Path:
    """The cache folder of this interpreter's documentation: its version, and a hash of what reads and cuts it."""
    sources = [READER, *(Path(str(module.__file__)) for module in (documents, words))]
    made_by = hashlib.sha256(b"".join(path.read_bytes() for path in sources) + bytes([FORMAT]))
    return cache_folder() / f"{PYDOC}-{platform.python_version()}-{sys.platform}-{made_by.hexdigest()[:12]}"


def open_pydoc() -> Index:
    """The index of this interpreter's documentation; built on first use, which takes seconds."""
    folder = pydoc_folder()
    if not folder.is_dir():
        build_index(read_pydoc(), folder, replace=True)
    return open_index(folder)


def open_corpus(path: Path | None) -> Index:
    """The index in a folder; the documentation of this Python where ``path`` is ``None`` or called ``pydoc``."""
    if path is None or (path.name == PYDOC and not path.exists()):
        return open_pydoc()
    return open_index(path.expanduser())
