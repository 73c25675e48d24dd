"""Controls above a picture: panels around any draw function, for every reader."""

import html
import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import anywidget
import ipywidgets
import numpy as np
import traitlets
from matplotlib.figure import Figure

from ddpm_utils.lab.canvas import Blit

STYLE = {"description_width": "initial"}
WIDE = ipywidgets.Layout(width="34em", max_width="100%")
CSS = """
.ddpm-picture img { max-width: 100%; background: white; }
.ddpm-picture { width: fit-content; max-width: 100%; }
.ddpm-picture [role="status"]:not(:empty) {
  position: relative; margin: 0 0 -22px; line-height: 22px; text-align: center; color: black;
}
.ddpm-picture [role="alert"] { color: #D55E00; font-weight: bold; margin: 0; }
"""


class Picture(anywidget.AnyWidget):
    """A PNG with an alternative text, a sentence that screen readers announce whenever it changes, and an error."""

    _esm = Path(__file__).with_name("picture.js")
    _css = CSS  # the sentence stands where the figure has its title

    png = traitlets.Bytes().tag(sync=True)
    alt = traitlets.Unicode().tag(sync=True)
    sentence = traitlets.Unicode().tag(sync=True)
    error = traitlets.Unicode().tag(sync=True)
    quiet = traitlets.Bool().tag(sync=True)  # while it changes by itself nothing is announced

    def __init__(self, description: str = ""):
        super().__init__()
        self.description = description
        self._blit = Blit()

    def __repr__(self) -> str:
        return "A picture that changes while the cell runs."  # what a notebook stores of it

    def show(self, figure: Figure) -> None:
        """Show a figure; its title is the sentence."""
        sentence = figure.get_suptitle()
        with self.hold_sync():
            self.png = self._blit(figure)
            self.sentence, self.error = sentence, ""
            self.alt = " ".join(part for part in (self.description, sentence) if part)

    def fail(self, error: Exception) -> None:
        """Say what went wrong, under the last picture."""
        self.error = f"{type(error).__name__}: {error}"


class Panel(ipywidgets.VBox):
    """Controls and a picture, with a text for readers of a stored notebook, who see no widget."""

    def __repr__(self) -> str:
        return "Interactive panel: run this notebook to use its sliders and buttons."


class Tabs(ipywidgets.Tab):
    """Pages under tabs, with such a text, too."""

    def __repr__(self) -> str:
        return "Interactive panels under tabs: run this notebook to use them."


def panel(
    draw: Callable[..., Figure],
    presets: Mapping[str, Mapping[str, Any]] | None = None,
    **controls: ipywidgets.DOMWidget,
) -> Panel:
    """Controls above the figure that `draw` makes of their values; it is drawn again whenever one changes.

    A `draw` that returns the same figure each time, with what changes marked (`canvas.moves`), answers in milliseconds.

    Args:
        draw: takes the controls' values by name. Its docstring's first line tells what the picture is, its figure's
            title the values, to those who cannot see it.
        presets: label of a button → values that it sets.
        controls: one widget for each argument.

    An error in `draw` is shown in the panel, not swallowed.
    """
    documented = draw if inspect.isroutine(draw) else type(draw).__call__
    picture = Picture((documented.__doc__ or "").strip().split("\n")[0])
    waiting = False

    def update(_change=None) -> None:
        if waiting:
            return
        try:
            picture.show(draw(**{name: control.value for name, control in controls.items()}))
        except Exception as error:
            picture.fail(error)

    def set_values(values: Mapping[str, Any]) -> None:
        nonlocal waiting
        waiting = True
        try:
            for name, value in values.items():
                controls[name].value = value
        finally:
            waiting = False
        update()

    buttons = [ipywidgets.Button(description=label, layout={"width": "auto"}) for label in presets or ()]
    for button, values in zip(buttons, (presets or {}).values(), strict=True):
        button.on_click(lambda _button, values=values: set_values(values))
    for control in controls.values():
        control.observe(update, names="value")
    update()
    above = [ipywidgets.HBox(buttons)] if buttons else []
    return Panel([*above, *controls.values(), picture])


def tabs(pages: Mapping[str, Callable[[], ipywidgets.Widget]]) -> Tabs:
    """Pages under tabs, each of which is made when it is first opened, since that may take a while.

    Args:
        pages: title → what makes the page. An error in it is shown in its place.
    """
    waiting = '<p role="status">Being computed, once; it takes up to half a minute …</p>'
    tab = Tabs([ipywidgets.VBox([ipywidgets.HTML(waiting)]) for _ in pages], titles=tuple(pages))
    made = set()

    def open_page(index: int) -> None:
        if index in made:
            return
        made.add(index)
        try:
            page = list(pages.values())[index]()
        except Exception as error:
            page = ipywidgets.HTML(f'<p role="alert">{type(error).__name__}: {html.escape(str(error))}</p>')
        tab.children[index].children = [page]

    tab.observe(lambda change: open_page(change.new), names="selected_index")
    open_page(0)
    return tab


def log_slider(low: float, high: float, value: float, description: str) -> ipywidgets.FloatLogSlider:
    """A slider over numbers on a logarithmic scale, 20 steps to a factor of ten."""
    first, last = np.log10([low, high])
    return ipywidgets.FloatLogSlider(
        value, min=first, max=last, step=0.05, description=description, readout_format=".2g", style=STYLE, layout=WIDE
    )


def int_slider(low: int, high: int, value: int, description: str) -> ipywidgets.IntSlider:
    """A slider over whole numbers."""
    return ipywidgets.IntSlider(value, low, high, description=description, style=STYLE, layout=WIDE)


def slider(values: Sequence, value, description: str) -> ipywidgets.SelectionSlider:
    """A slider over given values, which need not be evenly spaced."""
    options = [(f"{v:g}", v) for v in values]
    return ipywidgets.SelectionSlider(options=options, value=value, description=description, style=STYLE, layout=WIDE)


def menu(values: Sequence, value, description: str) -> ipywidgets.Dropdown:
    """A choice of one of a few values."""
    options = [(f"{v:g}" if isinstance(v, float) else str(v), v) for v in values]
    return ipywidgets.Dropdown(options=options, value=value, description=description, style=STYLE, layout=WIDE)
