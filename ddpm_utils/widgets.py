"""A slider panel around any draw function."""

import io
from collections.abc import Callable

import ipywidgets
import matplotlib.pyplot as plt
from matplotlib.figure import Figure


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
        content = io.BytesIO()
        figure.savefig(content, format="png")
        plt.close(figure)
        picture.value = content.getvalue()
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
