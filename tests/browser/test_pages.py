"""Every page in a real browser: it loads alone, fits, is light and dark, reads without scripts; axe finds nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from axe_playwright_python.sync_playwright import Axe
from tests.browser.conftest import Opened, Site

from sparring.storage.inspector.registry import PAGES

NARROW, WIDE = 380, 1600
RULES = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]}}
Visit = Callable[..., Opened]
each_page = pytest.mark.parametrize("path", list(PAGES))


def test_links_lead_to_every_registered_page(site: Site) -> None:
    assert set(site) == set(PAGES)


@each_page
@pytest.mark.parametrize("width", [NARROW, WIDE])
def test_a_page_loads_without_an_error_or_a_request_elsewhere_and_fits(
    path: str, width: int, site: Site, visit: Visit
) -> None:
    opened = visit(width=width)
    page = opened.go(site[path])
    assert page.locator("h1").count() == 1
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert opened.complaints == []


@each_page
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(path: str, scheme: str, site: Site, visit: Visit) -> None:
    page = visit(width=WIDE if scheme == "light" else NARROW, color_scheme=scheme).go(site[path])
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    found = Axe().run(page, options=RULES).response["violations"]
    serious = [one for one in found if one["impact"] in ("serious", "critical")]
    assert [(one["id"], [node["html"][:200] for node in one["nodes"][:3]]) for one in serious] == []


@each_page
def test_a_page_reads_the_same_without_scripts(path: str, site: Site, visit: Visit) -> None:
    texts = [
        visit(java_script_enabled=enabled).go(site[path]).locator("main").inner_text() for enabled in (True, False)
    ]
    assert len(texts[0]) > 40
    assert texts[0] == texts[1]


@each_page
def test_dark_is_dark_and_light_is_light(path: str, site: Site, visit: Visit) -> None:
    shades = []
    for scheme in ("light", "dark"):
        page = visit(color_scheme=scheme).go(site[path])
        shades.append(page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)"))
    assert min(shades[0][:3]) > 200 and max(shades[1][:3]) < 80
