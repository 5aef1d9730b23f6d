"""How fast the pages are in Chromium on a million turns: ``python benchmarks/page.py [DATABASE] [--rounds 5]``.

``sparring ui`` runs over the database of ``million.py``; a headless Chromium (the extra ``browser``) loads each kind of
page with an empty cache. Server: until the first byte. Paint: first contentful paint. Load: everything is there. Then a
fold is opened and the newest page of a list is paged on, until the next frame is drawn. CPU is the server's, a request.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from million import default_file, million

PAGES = (
    *("/runs", "/runs/r1", "/runs/r1/figures", "/runs/r1/steps", "/runs/r1/episodes", "/runs/r1/steps/1200"),
    *("/runs/r1/steps/1200/episodes/3", "/runs/r1/lineage?step=1200", "/runs/r1/tasks", "/runs/r1/rubrics"),
    *("/compare?runs=r1,r2", "/diff?a=r1/1200/3&b=r1/1201/3", "/search?q=print", "/search?q=nothinglikethis"),
)
TIMES = """async () => {
  for (let tries = 0; tries < 50 && !performance.getEntriesByName("first-contentful-paint").length; tries++)
    await new Promise((done) => setTimeout(done, 20));  // the paint may come after the load
  const [one] = performance.getEntriesByType("navigation");
  const paint = performance.getEntriesByName("first-contentful-paint")[0];
  return {server: one.responseStart, paint: paint ? paint.startTime : null, load: one.loadEventEnd};
}"""
OPEN = """async () => {
  const fold = document.querySelector("main details:not([open]) > summary");
  if (!fold) return null;
  const begun = performance.now();
  fold.click();
  await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
  return performance.now() - begun;
}"""
ON = "main a[rel=next], main a[href*='after='], main a[href*='before=']"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("database", type=Path, nargs="?", default=default_file())
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    million(asked.database)
    words = [sys.executable, "-m", "sparring", "ui", "--port", "0", "--db", str(asked.database)]
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores at the start\n")
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        home = re.findall(r"http://[\d.:]+", server.stdout.readline())[0]
        try:
            shown(measured(home, server.pid, asked.rounds))
        finally:
            server.terminate()
    print(f"\nload {os.getloadavg()[0]:.1f} at the end")


def measured(home: str, server: int, rounds: int) -> dict[str, list[Mapping[str, float | None]]]:
    """Milliseconds by page, a mapping for each round; pages take turns."""
    from playwright.sync_api import sync_playwright

    found: dict[str, list[Mapping[str, float | None]]] = {address: [] for address in PAGES}
    with sync_playwright() as playwright:
        chromium = os.environ.get("CHROMIUM", "/usr/bin/chromium")
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        for number in range(rounds + 1):
            for address in PAGES:
                context = browser.new_context(viewport={"width": 1280, "height": 900})
                times = visited(context.new_page(), home + address, server)
                context.close()
                if number:  # the first round warms the server up
                    found[address].append(times)
        browser.close()
    return found


def visited(page: Any, address: str, server: int) -> dict[str, float | None]:
    """One visit."""
    before = cpu_ms(server)
    page.goto(address, wait_until="load", timeout=60_000)
    spent = cpu_ms(server) - before
    times: dict[str, float | None] = dict(page.evaluate(TIMES))
    times["cpu"] = spent
    times["open"] = page.evaluate(OPEN)
    onward = page.locator(ON).first
    times["on"] = None
    if onward.count():
        onward.evaluate(
            "(link) => { for (let one = link; one; one = one.parentElement) if ('open' in one) one.open = true; }"
        )
        onward.click()
        page.wait_for_load_state("load")
        times["on"] = page.evaluate(TIMES)["paint"]
    return times


def cpu_ms(process: int) -> float:
    """CPU time of a process so far; 10 ms grain."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return 1000 * (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def shown(found: Mapping[str, Sequence[Mapping[str, float | None]]]) -> None:
    """Medians and the slowest, in milliseconds."""
    names = {"cpu": "server CPU", "server": "first byte", "paint": "first paint", "load": "load"}
    names |= {"open": "open a fold", "on": "page on: paint"}
    print("| page | " + " | ".join(names.values()) + " |")
    print("|---|" + "--:|" * len(names))
    for address, rounds in found.items():
        cells = []
        for name in names:
            values = [value for one in rounds if (value := one[name]) is not None]
            cells.append(f"{statistics.median(values):.0f} (to {max(values):.0f})" if values else "")
        print(f"| `{address}` | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
