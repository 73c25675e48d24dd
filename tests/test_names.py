"""Spellings that are understood, and names that are suggested."""

import pytest

from ddpm_utils.names import canonical, suggestion

ALLOWED = ("cosine", "one_cycle", "lean_unet", "fashion_mnist", "mnist_5k", "mnist")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        *[("FashionMNIST", "fashion_mnist"), ("fashion-mnist", "fashion_mnist"), ("Fashion MNIST", "fashion_mnist")],
        *[("LeanUNet", "lean_unet"), ("lean-unet", "lean_unet"), ("LEAN__UNET", "lean_unet"), ("Cosine", "cosine")],
        *[("one-cycle", "one_cycle"), ("OneCycle", "one_cycle"), (" mnist ", "mnist"), ("MNIST5k", "mnist_5k")],
        *[("cosin", None), ("", None), ("mnist.", None), ("fashion/mnist", None), ("-", None)],
        *[("-mnist", None), ("_mnist", None), ("mnist-", None)],
    ],
)
def test_other_spellings_are_understood(name, expected):
    assert canonical(name, ALLOWED) == expected
    assert canonical(name, iter(ALLOWED)) == expected


def test_an_exact_name_comes_first():
    assert canonical("T", ["t", "T"]) == "T"
    assert canonical("t", ["t", "T"]) == "t"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        *[("cosin", "cosine"), ("Kosine", "cosine"), ("lean_net", "lean_unet"), ("FashonMNIST", "fashion_mnist")],
        *[("one cycel", "one_cycle"), ("minst", "mnist"), ("MNIST-5", "mnist_5k")],
        *[("", ""), ("sigmoid", ""), ("x" * 1000, ""), ("💥", "")],
    ],
)
def test_names_that_are_close_are_suggested(name, expected):
    assert suggestion(name, ALLOWED) == (f" Did you mean {expected!r}?" if expected else "")
