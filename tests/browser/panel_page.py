"""A panel in a page, as a reader sees and moves it."""

import base64
from pathlib import Path
from statistics import median

from tests.patience import wait_until

WATCH = """picture => {
  window.panelTimes = window.panelTimes || [];
  if (!window.panelKeys) {
    window.panelKeys = true;
    document.addEventListener("keydown", () => { window.pressed = performance.now(); }, true);
  }
  const image = picture.querySelector("img");
  if (image.watched) return;
  image.watched = true;
  image.addEventListener("load", () => {
    if (window.pressed) window.panelTimes.push(performance.now() - window.pressed);
    window.pressed = null;
  });
}"""
MANAGER = """
  const kind = "application/vnd.jupyter.widget-view+json";
  const manager = await (jupyterapp.widgetManagerPromise  // Voilà's; JupyterLab has one for each notebook
    ?? jupyterapp.shell.currentWidget.content.rendermime.createRenderer(kind)._manager).promise;
"""
SETTLED = f"""async picture => {{
  {MANAGER}
  const all = async () => Promise.all(Object.values(manager._models));
  const answered = models => models.every(model => !model._pending_msgs && !model._msg_buffer);
  if (!answered(await all())) return false;
  await Promise.all((await all()).map(model => model.state_change));
  const image = picture.querySelector("img");
  return answered(await all()) && image.complete && image.naturalWidth > 0;
}}"""
"""Whether the kernel has answered all that the controls have told it, and the page shows the last answer. Widgets count
what they have sent and what was answered; they hold back what changes in between, as during a drag."""
PNG = """async image => {
  const bytes = new Uint8Array(await (await fetch(image.src)).arrayBuffer());
  return btoa(bytes.reduce((text, byte) => text + String.fromCharCode(byte), ""));
}"""


class PanelPage:
    """One panel of a page: the widget box that has a picture right inside.

    Args:
        page: Playwright's.
        number: of the panel, in the order of the page, from 0.
    """

    def __init__(self, page, number: int):
        self.page = page
        panels = page.locator(".widget-vbox:visible").filter(has=page.locator(":scope > .ddpm-picture"))
        self.box = panels.nth(number)
        self.picture = self.box.locator(".ddpm-picture")
        self.picture.wait_for()
        self.box.scroll_into_view_if_needed()
        self.picture.evaluate(WATCH)

    @property
    def sentence(self) -> str:
        """What a screen reader announces."""
        return self.picture.get_by_role("status").inner_text()

    @property
    def error(self) -> str:
        """What the panel says went wrong."""
        return self.picture.get_by_role("alert").inner_text()

    @property
    def alternative_text(self) -> str:
        return self.picture.locator("img").get_attribute("alt")

    @property
    def png(self) -> bytes:
        """The picture, as the page got it."""
        return base64.b64decode(self.picture.locator("img").evaluate(PNG))

    @property
    def sliders(self) -> int:
        """How many there are."""
        return self.box.locator(".noUi-handle").count()

    @property
    def menus(self) -> list:
        return self.box.locator("select").all()

    def readout(self, slider: int) -> str:
        """The value beside a slider."""
        return self.box.locator(".widget-readout").nth(slider).inner_text()

    def place(self, slider: int) -> float:
        """Where a slider stands, from 0 to 1."""
        handle = self.box.locator(".noUi-handle").nth(slider)
        now, least, most = (float(handle.get_attribute(f"aria-value{name}")) for name in ("now", "min", "max"))
        return (now - least) / (most - least)

    def press(self, slider: int, key: str) -> None:
        """Press a key on a slider's handle, and wait for the picture that it brings."""
        self.box.locator(".noUi-handle").nth(slider).focus()
        self.page.keyboard.press(key)
        self.settle()

    def drag(self, slider: int, place: float) -> None:
        """Drag a handle with the mouse to a place between 0 and 1 of its slider, in twelve moves."""
        handle, base = self.box.locator(".noUi-handle").nth(slider), self.box.locator(".noUi-base").nth(slider)
        handle.hover()  # once it has stopped moving: what stands above it may still be laid out
        knob, track = handle.bounding_box(), base.bounding_box()
        self.page.mouse.down()
        self.page.mouse.move(track["x"] + place * track["width"], knob["y"] + knob["height"] / 2, steps=12)
        self.page.mouse.up()
        self.settle()

    def choose(self, menu: int, label: str) -> None:
        """Choose from a menu, and wait for the picture that it brings."""
        self.menus[menu].select_option(label=label)
        self.settle()

    def press_in_menu(self, menu: int, letter: str) -> None:
        """Press the first letter of a choice on a menu, and wait for the picture that it brings."""
        self.menus[menu].focus()
        self.page.keyboard.press(letter)
        self.settle()

    def click(self, button: str) -> None:
        """Press a button."""
        self.box.get_by_role("button", name=button).click()

    def wait_for_sentence(self, pattern: str) -> None:
        """Wait until the sentence has this regular expression in it."""
        self.page.wait_for_function(
            "([picture, pattern]) => RegExp(pattern).test(picture.querySelector('[role=status]').textContent)",
            arg=[self.picture.element_handle(), pattern],
        )

    def settle(self) -> None:
        """Wait until the picture is the answer to all that was done: the last of a drag's values has arrived."""
        wait_until(lambda: self.picture.evaluate(SETTLED), "the kernel's answer")

    def latency(self) -> float:
        """Median milliseconds from a key press to the new picture, over all presses so far in this page."""
        return median(self.page.evaluate("window.panelTimes"))


def exercise(panel: PanelPage, check, *arguments, drag: bool = True) -> None:
    """Move each slider in turn: each time the panel must say something else, and show what belongs to it.

    Args:
        panel: on the page.
        check: compares the panel's sentence and picture with numbers computed here.
        *arguments: of the check, after sentence and picture.
        drag: also drag each slider with the mouse, after the key.
    """

    def right() -> str:
        assert panel.error == ""
        sentence = panel.sentence
        assert panel.alternative_text.endswith(sentence)
        check(sentence, panel.png, *arguments)
        return sentence

    said = [right()]
    for handle in panel.box.get_by_role("slider").all():
        assert handle.get_attribute("aria-label"), "a slider has no name"
    for slider in range(panel.sliders):
        panel.press(slider, "ArrowLeft" if panel.place(slider) == 1 else "ArrowRight")
        said.append(right())
        assert said[-1] != said[-2], f"slider {slider} does nothing by keyboard"
        if drag:
            before = panel.readout(slider)
            panel.drag(slider, 0.2 if panel.place(slider) > 0.5 else 0.8)
            assert panel.readout(slider) != before, f"slider {slider} cannot be dragged"
            said.append(right())


def finish(panels: dict[str, PanelPage], screenshots: Path, name: str, record_property) -> None:
    """A screenshot of each panel, and the median time from a key to its picture."""
    for label, panel in panels.items():
        panel.box.screenshot(path=screenshots / f"{name}_{label}.png")
    record_property("latency", f"{name}: {next(iter(panels.values())).latency():.0f} ms")
