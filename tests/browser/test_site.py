"""The web site from the disk, without any network: what it asks for, its links, its table, and a narrow window."""

import shutil
from pathlib import Path

import pytest

from ddpm_utils.batch.notebooks import numbered
from ddpm_utils.batch.site import build_site
from tests.executed_runs import EXPERIMENTS, write_runs


@pytest.fixture(scope="module")
def index(tmp_path_factory) -> Path:
    """The index of a site, with one of the real notebooks."""
    folder = write_runs(tmp_path_factory.mktemp("runs"))
    shutil.copy(numbered()[0], folder / EXPERIMENTS[0])
    return build_site(folder, folder / "site")


@pytest.fixture
def opened(page, index):
    """The index; the page's fixture complains of errors on the console."""
    page.context.set_offline(True)
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(index.as_uri())
    yield page
    elsewhere = [url for url in asked if not url.startswith((index.parent.as_uri(), "data:"))]
    assert elsewhere == []


def column(page, number: int) -> list[str]:
    return page.locator(f"tbody tr td:nth-child({number})").all_inner_texts()


def test_sorts_by_a_header(opened):
    fid = opened.get_by_role("button", name="FID N(0, I)")
    head = opened.locator("th", has=fid)
    assert column(opened, 5) == ["12.3 ± 0.125", "9.5", "–", "100"]
    fid.click()
    assert column(opened, 5) == ["9.5", "12.3 ± 0.125", "100", "–"]
    assert column(opened, 3) == ["200", "2000", "2000", "20"]  # whole rows
    assert head.get_attribute("aria-sort") == "ascending"
    opened.keyboard.press("Enter")  # it has the focus
    assert column(opened, 5) == ["100", "12.3 ± 0.125", "9.5", "–"]
    assert head.get_attribute("aria-sort") == "descending"
    opened.keyboard.press("Shift+Tab")
    opened.keyboard.press("Space")
    assert column(opened, 4) == ["cnn", "cnn", "cnn", "lean_unet"]
    assert head.get_attribute("aria-sort") is None


def test_every_link_opens(opened, index):
    addresses, to_visit = set(), {index.as_uri()}
    while to_visit:
        addresses |= to_visit
        found = set()
        for address in to_visit:
            opened.goto(address)  # raises if there is no such file
            found |= set(opened.evaluate("[...document.links].map(link => link.href)"))
        to_visit = {url.partition("#")[0] for url in found if url.startswith("file:")} - addresses
    assert addresses == {path.as_uri() for path in index.parent.rglob("*.html")}


def test_equations_and_figures_can_be_seen_in_a_narrow_window(opened, index, screenshots):
    for width in (1200, 400):
        opened.set_viewport_size({"width": width, "height": 900})
        for name in ("index.html", f"{EXPERIMENTS[0]}/01_forward_process.html"):
            opened.goto((index.parent / name).as_uri())
            opened.evaluate("document.querySelectorAll('details').forEach(solution => solution.open = true)")
            opened.screenshot(path=screenshots / f"site_{Path(name).stem}_{width}.png", full_page=True)
            assert opened.evaluate("document.documentElement.scrollWidth") <= width
    sizes = opened.evaluate(
        "[...document.querySelectorAll('math, img')].map(e => e.checkVisibility() && e.getBoundingClientRect().height)"
    )
    assert len(sizes) > 50
    assert min(sizes) > 3
    fraction = opened.locator("math mfrac").first.evaluate("e => [...e.children].map(c => c.getBoundingClientRect().y)")
    assert fraction[0] < fraction[1]  # one above the other
