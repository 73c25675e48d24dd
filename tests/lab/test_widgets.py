"""Panels: what a control does, what is said of it, and what is shown when drawing fails."""

import ipywidgets
import matplotlib.pyplot as plt
import pytest

from ddpm_utils.lab import widgets
from ddpm_utils.lab.canvas import moves, moving_title


@pytest.fixture
def draw():
    figure, axes = plt.subplots(figsize=(2, 1))
    axes.set(xlim=(0, 20), ylim=(0, 0.2))
    dot = moves(axes.plot([], [], "o")[0])
    title = moving_title(figure)
    calls = []

    def draw(beta: float, t: int):
        """A dot.

        And more that is not read out.
        """
        calls.append((beta, t))
        if t == 13:
            raise ValueError("t must not be 13.")
        dot.set_data([t], [beta])
        title.set_text(f"β = {beta:g}, t = {t}")
        return figure

    draw.calls = calls
    yield draw
    plt.close(figure)


@pytest.fixture
def panel(draw):
    controls = {"beta": widgets.log_slider(1e-3, 0.1, 0.01, "β"), "t": widgets.int_slider(0, 20, 3, "t, steps")}
    return widgets.panel(draw, {"both": {"beta": 0.1, "t": 7}}, **controls)


def test_a_figure_without_marks_is_drawn_anew():
    """A student's own draw function, which makes a new figure each time, works too."""

    def draw(t: int):
        figure, axes = plt.subplots(figsize=(2, 1))
        axes.plot([0, t])
        plt.close(figure)
        return figure

    *_, t, picture = widgets.panel(draw, t=widgets.int_slider(0, 20, 3, "t")).children
    before = picture.png
    t.value = 4
    assert picture.png != before


def test_a_control_changes_picture_sentence_and_alternative_text(panel):
    _, _, t, picture = panel.children
    assert picture.sentence == "β = 0.01, t = 3"
    assert picture.alt == "A dot. β = 0.01, t = 3"
    before = picture.png
    t.value = 4
    assert picture.sentence == "β = 0.01, t = 4"
    assert picture.png != before
    assert picture.png.startswith(b"\x89PNG")


def test_an_error_is_shown_and_goes_away(panel):
    *_, t, picture = panel.children
    before = picture.png
    t.value = 13
    assert picture.error == "ValueError: t must not be 13."
    assert picture.png == before
    t.value = 14
    assert picture.error == ""


def test_a_preset_sets_all_its_values_and_draws_once(panel, draw):
    buttons, beta, t, picture = panel.children
    drawn = len(draw.calls)
    buttons.children[0].click()
    assert (beta.value, t.value) == (pytest.approx(0.1), 7)
    assert picture.sentence == "β = 0.1, t = 7"
    assert len(draw.calls) == drawn + 1


def test_a_stored_notebook_has_a_sentence_for_each_widget(panel):
    sentence = "Interactive panel: run this notebook to use its sliders and buttons."
    assert panel._repr_mimebundle_()["text/plain"] == repr(panel) == sentence
    assert repr(panel.children[-1]) == "A picture that changes while the cell runs."
    assert repr(widgets.tabs({"page": lambda: panel})).startswith("Interactive panels under tabs: ")
    assert panel.get_state()["_model_name"] == "VBoxModel"  # the page knows no other


def test_controls_can_be_moved_by_keyboard_and_have_labels(panel):
    _, beta, t, _ = panel.children
    assert isinstance(beta, ipywidgets.FloatLogSlider)
    assert beta.continuous_update
    assert (beta.min, beta.max) == (-3, -1)
    assert t.description == "t, steps"
    assert [label for label, _ in widgets.slider([0.1, 5], 0.1, "σ").options] == ["0.1", "5"]
    assert widgets.menu(["a", "b"], "b", "choice").value == "b"
