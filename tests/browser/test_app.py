"""The stand-alone page: the same panels in tabs, without code, for those who have the token."""

import socket
import urllib.request

import pytest

from ddpm_utils.randomness import generator_for
from ddpm_utils.training.experiments import LEAN, PUBLISHED, Experiment
from tests.browser import checks
from tests.browser.panel_page import PanelPage, exercise, finish
from tests.patience import PATIENCE

EXPERIMENT = Experiment(**PUBLISHED["low β"] | LEAN)


@pytest.fixture
def opened(page, voila):
    """The page, when its first panel is there."""
    page.goto(f"{voila.url}/?token={voila.token}", wait_until="commit")
    wait_for_panels(page, 2)
    return page


def wait_for_panels(page, count: int) -> None:
    """Wait until so many pictures are in view: panels are counted in the order of the page."""
    page.locator(f":nth-match(.ddpm-picture img:visible, {count})").wait_for()


def open_tab(page, title: str, panels: int) -> None:
    """Open a tab that has so many panels."""
    page.locator(".lm-TabBar-tab", has_text=title).click()
    page.locator(".lm-TabBar-tab.lm-mod-current", has_text=title).wait_for()
    wait_for_panels(page, panels)


def test_every_panel(opened, output, screenshots, record_property):
    (noise,) = EXPERIMENT.objective.draw(checks.digits().test.images[:8], generator_for(0, "shown"))
    forward, reverse = PanelPage(opened, 0), PanelPage(opened, 1)
    exercise(forward, checks.forward, noise)
    exercise(reverse, checks.reverse, drag=False)
    panels = {"forward": forward}
    finish(panels, screenshots, "app_1", record_property)

    open_tab(opened, "2 Training", panels=2)
    assert PanelPage(opened, 0).sentence.startswith("Not begun")
    exercise(PanelPage(opened, 1), checks.estimates, EXPERIMENT, drag=False)
    opened.screenshot(path=screenshots / "app_2.png")
    rest = {
        "3 Sampling": ("Heun", checks.trajectory, EXPERIMENT),
        "4 Evaluation": ("lean_unet", checks.causes),  # the published row, and then what was never trained
        "5 Degradations": ("heat", checks.round_trip),
    }
    for title, (label, check, *arguments) in rest.items():
        open_tab(opened, title, panels=1)
        panel = PanelPage(opened, 0)
        exercise(panel, check, *arguments, drag=False)
        panel.choose(0, label)
        assert label in panel.sentence
        check(panel.sentence, panel.png, *arguments)
        opened.screenshot(path=screenshots / f"app_{title[0]}.png")
    assert "import" not in opened.locator("body").inner_text()  # no code
    assert opened.locator(".jp-CodeCell .jp-InputArea:visible").count() == 0


def test_asks_for_its_token(voila):
    with urllib.request.urlopen(voila.url) as answer:
        assert answer.url == f"{voila.url}/login?next=%2F"


def test_listens_on_loopback_only(voila):
    """Who comes to this machine by another of its addresses finds nobody there."""
    port = int(voila.url.rsplit(":", 1)[1])
    own = {found[4][0] for found in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)}
    for address in (own | {"127.0.0.2"}) - {"127.0.0.1"}:
        with pytest.raises(OSError), socket.create_connection((address, port), PATIENCE):  # noqa: PT011
            pass
