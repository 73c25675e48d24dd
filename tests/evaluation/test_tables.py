"""Tables in Markdown: digits, dashes, spreads, and the best of a column."""

import numpy as np
import pandas as pd
import pytest

from ddpm_utils.evaluation.tables import SPREAD, to_markdown

TABLE = pd.DataFrame(
    {
        "network": ["one", "two", "three"],
        "FID": [12.345, 3.21, np.nan],
        f"FID{SPREAD}": [0.5, 0.126, np.nan],
        "SSIM": [0.5, 0.25, 0.9876],
    }
)


def cells(text: str) -> list[list[str]]:
    """The head and the rows of a table, without the line between them."""
    head, _, *rows = text.splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in (head, *rows)]


def test_numbers_have_three_digits_and_their_spreads():
    assert cells(to_markdown(TABLE)) == [
        ["network", "FID", "SSIM"],
        ["one", "12.3 ± 0.5", "0.5"],
        ["two", "3.21 ± 0.126", "0.25"],
        ["three", "–", "0.988"],
    ]


@pytest.mark.parametrize(
    ("best", "bold"),
    [
        ({"FID": min}, {(2, 1): "**3.21** ± 0.126"}),  # the least, where nothing is no number
        ({"FID": max}, {(1, 1): "**12.3** ± 0.5"}),
        ({"SSIM": max}, {(3, 2): "**0.988**"}),
        ({"FID": min, "SSIM": min}, {(2, 1): "**3.21** ± 0.126", (2, 2): "**0.25**"}),
        ({}, {}),
    ],
)
def test_the_best_of_a_column_is_bold(best, bold):
    expected = cells(to_markdown(TABLE))
    for (row, column), text in bold.items():
        expected[row][column] = text
    before = TABLE.copy()
    assert cells(to_markdown(TABLE, best=best)) == expected
    pd.testing.assert_frame_equal(TABLE, before)


def test_the_best_is_found_in_a_table_with_other_row_labels():
    """By its place, not by its label; of numbers, not of their texts; nothing is never the best."""
    table = pd.DataFrame({"FID": [np.nan, 10.0, 9.0, 100.0]}, index=[2, 0, 1, 3])
    assert [row[0] for row in cells(to_markdown(table, best={"FID": min}))[1:]] == ["–", "10", "**9**", "100"]
    assert [row[0] for row in cells(to_markdown(table, best={"FID": max}))[1:]] == ["–", "10", "9", "**100**"]
