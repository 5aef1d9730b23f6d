"""Without a mouse: the skip link works, focus goes everywhere in order and is seen, details open."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.browser.conftest import Opened, Site

from sparring.storage.inspector.registry import PAGES

Visit = Callable[..., Opened]
FOCUS = """() => {
  const at = document.activeElement, style = getComputedStyle(at), box = at.getBoundingClientRect();
  const drawn = at instanceof SVGElement ? at.querySelector("rect") : null;
  const ring = (style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0)
    || (drawn && parseFloat(getComputedStyle(drawn).strokeWidth) >= 3);
  return {name: at.tagName, seen: box.width > 0 && box.height > 0, ring: ring || style.boxShadow !== "none",
          main: !!at.closest("main"), html: at.outerHTML.slice(0, 120)};
}"""


def test_the_skip_link_comes_first_and_leads_into_the_content(site: Site, visit: Visit) -> None:
    page = visit().go(site["/runs"])
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"


@pytest.mark.parametrize("path", list(PAGES))
def test_focus_reaches_navigation_and_content_and_is_always_seen(path: str, site: Site, visit: Visit) -> None:
    page = visit().go(site[path])
    stops = []
    for _ in range(40):
        page.keyboard.press("Tab")
        stops.append(page.evaluate(FOCUS))
        if stops[-1]["name"] == "BODY":
            break
    reached = [stop for stop in stops if stop["name"] != "BODY"]
    assert any(not stop["main"] for stop in reached) and any(stop["main"] for stop in reached)
    assert [stop["html"] for stop in reached if not (stop["seen"] and stop["ring"])] == []


def test_enter_opens_what_is_folded(site: Site, visit: Visit) -> None:
    page = visit().go(site["/runs/{run}"])
    folded = page.locator("main details:not([open]) > summary").first
    folded.focus()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.parentElement.open") is True
