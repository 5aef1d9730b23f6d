"""Print the exact versions of everything `.[dev,browser]` needs, as installed here.

    python tools/constraints.py > constraints.txt

Names and versions only: where packages come from is the installer's business, so a local version suffix is cut off.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, distribution

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def closure(root: str, *extras: str) -> dict[str, str]:
    """Name to version of every installed package that ``root`` with these extras pulls in, itself left out."""
    found: dict[str, str] = {}
    waiting = [(root, frozenset(extras))]
    done = set()
    while waiting:
        name, wanted = waiting.pop()
        if (name, wanted) in done:
            continue
        done.add((name, wanted))
        try:
            package = distribution(name)
        except PackageNotFoundError:  # an extra or a platform this machine does not have
            continue
        found[name] = package.version.partition("+")[0]
        for line in package.requires or ():
            needed = Requirement(line)
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in ("", *wanted)):
                waiting.append((canonicalize_name(needed.name), frozenset(needed.extras)))
    del found[root]
    return found


if __name__ == "__main__":
    for name, version in sorted(closure("sparring", "dev", "browser").items()):
        print(f"{name}=={version}")
