"""A slider panel around any draw function."""

import time
from collections.abc import Callable

import ipywidgets
from matplotlib.figure import Figure

from ddpm_utils.plots import to_png


def panel(draw: Callable[..., Figure], **controls: ipywidgets.ValueWidget) -> ipywidgets.VBox:
    """Controls above the figure that `draw` makes of their values; it is drawn again whenever one changes.

    Args:
        draw: takes the controls' values by name and returns a figure, which is closed after it is shown.
        controls: one widget for each argument.

    An error in `draw` is shown in the panel, not swallowed.
    """
    picture = ipywidgets.Image(format="png")
    message = ipywidgets.HTML()

    def update(_change=None) -> None:
        try:
            figure = draw(**{name: control.value for name, control in controls.items()})
        except Exception as error:
            message.value = f"<b>{type(error).__name__}</b>: {error}"
            return
        picture.value = to_png(figure)
        message.value = ""

    for control in controls.values():
        control.observe(update, names="value")
    update()
    return ipywidgets.VBox([*controls.values(), message, picture])


def slider(values: range | list, value, description: str, *, unit: str = "") -> ipywidgets.SelectionSlider:
    """A slider over given values, which need not be evenly spaced."""
    options = [(f"{v:g}{unit}" if isinstance(v, int | float) else str(v), v) for v in values]
    style = {"description_width": "initial"}
    layout = ipywidgets.Layout(width="28em")
    return ipywidgets.SelectionSlider(
        options=options, value=value, description=description, continuous_update=False, style=style, layout=layout
    )


class LiveFigure:
    """A picture that is drawn again while something runs, but not more often than every few seconds.

    Args:
        seconds: the least time between two drawings.
    """

    def __init__(self, seconds: float = 2.0):
        self.view = ipywidgets.Image(format="png")
        self.seconds = seconds
        self._drawn = -seconds

    def draw(self, make: Callable[[], Figure]) -> None:
        """Show the figure that `make` returns, if it is time."""
        if time.monotonic() - self._drawn >= self.seconds:
            self.view.value = to_png(make())
            self._drawn = time.monotonic()
