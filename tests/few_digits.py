"""The command ddpm on a few of the embedded digits, for tests that launch it in processes of its own."""

import sys
from dataclasses import replace

from ddpm_utils import data
from ddpm_utils.__main__ import main

load = data.load


def load_few(name: str) -> data.Dataset:
    """64 digits to train on; 300 to validate with, two chunks of the validation grid."""
    dataset = load(name)
    return replace(dataset, train=dataset.train[:64], validation=dataset.validation[:300])


if __name__ == "__main__":
    data.load = load_few
    sys.exit(main())
