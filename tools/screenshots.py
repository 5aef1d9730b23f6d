"""Pictures of every page, for docs: ``python tools/screenshots.py DATABASE [docs/images]``.

Runs ``sparring ui`` over the database and photographs the pages of its first run in a headless Chromium (the extra
``browser``; CHROMIUM names another one). PNG with at most 256 colours.
"""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.request import urlopen

WIDE, NARROW, TALL = 1200, 380, 1600
MOST_BYTES = 200_000


def main(database: Path, folder: Path) -> None:
    """Write a picture for each page."""
    from playwright.sync_api import sync_playwright

    folder.mkdir(parents=True, exist_ok=True)
    words = [sys.executable, "-m", "sparring", "ui", "--port", "0", "--db", str(database)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as server, sync_playwright() as playwright:
        assert server.stdout is not None
        home = re.findall(r"http://[\d.:]+", server.stdout.readline())[0]
        chromium = os.environ.get("CHROMIUM", "/usr/bin/chromium")
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        for name, (address, width, scheme) in shots(home).items():
            file = folder / f"{name}.png"
            file.write_bytes(taken(browser, home + address, width, scheme))
            print(f"{file}: {address}, {file.stat().st_size / 1000:.0f} kB", flush=True)
        browser.close()
        server.terminate()


def shots(home: str) -> dict[str, tuple[str, int, str]]:
    """By file name: address, width, colour scheme."""
    runs = sorted(set(re.findall(r'href="(/runs/r\d+)"', read(home + "/runs"))))
    run = runs[0]
    step = links(home, run + "/steps", run + r"/steps/\d+")[0]
    episode = links(home, step, step + r"/episodes/\d+")[0]
    rubric = links(home, run + "/rubrics", run + r"/steps/\d+/episodes/\d+/rubrics/\d+")
    task = links(home, run + "/tasks", run + r"/tasks/[\w.-]+")
    found = {
        "runs": ("/runs", WIDE, "light"),
        "run": (run, WIDE, "light"),
        "run-dark": (run, WIDE, "dark"),
        "run-phone": (run, NARROW, "light"),
        "steps": (run + "/steps", WIDE, "light"),
        "step": (step, WIDE, "light"),
        "episode": (episode, WIDE, "light"),
        "episode-dark-phone": (episode, NARROW, "dark"),
        "lineage": (f"{run}/lineage?step={step.rpartition('/')[2]}", WIDE, "light"),
        "search": ("/search?q=answer", WIDE, "light"),
    }
    if len(runs) > 1:
        found["compare"] = (f"/compare?runs={runs[0][6:]},{runs[1][6:]}", WIDE, "light")
    found |= {"rubric": (rubric[0], WIDE, "light")} if rubric else {}
    found |= {"task": (task[0], WIDE, "light")} if task else {}
    return found


def links(home: str, address: str, pattern: str) -> list[str]:
    """Addresses of this shape that a page leads to."""
    return re.findall(f'href="({pattern})"', read(home + address))


def read(address: str) -> str:
    """A page's HTML."""
    with urlopen(address) as answer:
        text: str = answer.read().decode()
    return text


def taken(browser: Any, address: str, width: int, scheme: str) -> bytes:
    """A PNG of the page's upper part, its colours cut down until it is small."""
    from PIL import Image

    context = browser.new_context(viewport={"width": width, "height": TALL}, color_scheme=scheme)
    page = context.new_page()
    page.goto(address, wait_until="networkidle")
    height = min(TALL, page.evaluate("document.documentElement.scrollHeight"))
    picture = Image.open(io.BytesIO(page.screenshot(clip={"x": 0, "y": 0, "width": width, "height": height})))
    context.close()
    for colours in (256, 128, 64, 32, 16):
        held = io.BytesIO()
        picture.convert("RGB").quantize(colours, dither=Image.Dither.NONE).save(held, "PNG", optimize=True)
        if held.tell() <= MOST_BYTES:
            break
    return held.getvalue()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else Path("docs/images"))
