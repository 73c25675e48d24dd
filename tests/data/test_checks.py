"""Images of another kind: each public function that takes images refuses them in one sentence that says what to do."""

import numpy as np
import PIL.Image
import pytest
import torch

from ddpm_utils import data
from ddpm_utils.cold import starts
from ddpm_utils.cold.mixtures import DEGRADATIONS
from ddpm_utils.cold.restoration import degrade
from ddpm_utils.data.checks import check_images
from ddpm_utils.diffusion.exact import AffineDecoder, ExactDecoder
from ddpm_utils.diffusion.forward import diffuse, diffuse_step, posterior
from ddpm_utils.diffusion.samplers import MatchedStart
from ddpm_utils.diffusion.schedules import constant
from ddpm_utils.evaluation import losses, metrics, neighbours, samples
from ddpm_utils.lab.images import NoisyDigits
from ddpm_utils.plots.images import image_table, mosaics
from ddpm_utils.training.loop import train
from ddpm_utils.training.objectives import NoisePrediction, mean_loss, validate
from ddpm_utils.training.run import Run

pytestmark = pytest.mark.usefixtures("unchecked")
SCHEDULE = constant(beta=0.1, T=5)
X = torch.linspace(-0.5, 0.5, 4 * 784).reshape(4, 1, 28, 28)  # images as they should be


def with_value(value: float) -> torch.Tensor:
    images = X.clone()
    images[2, 0, 3, 3] = value
    return images


WRONG = {
    "[0, 1]": (X + 0.5, r"lie in \[−0\.5, 0\.5\], not in \[0, 1\]: they look like \[0, 1\]; subtract 0\.5\.$"),
    "0…255": ((X + 0.5) * 255, r"not in \[0, 255\]: they look like 0…255; divide by 255, then subtract 0\.5\.$"),
    "[−1, 1]": (X * 2, r"not in \[-1, 1\]: they look like \[−1, 1\]; divide by 2\.$"),
    "standardised": ((X + 0.3) * 3, r"not in \[-0\.6, 2\.4\]: scale them linearly, or clamp"),
    "float16, 0…16": ((16 * (X + 0.5)).half(), r"not in \[0, 16\]: they look like 0…255"),
    "bytes": ((255 * (X + 0.5)).byte(), r"be floating-point, not torch\.uint8: convert .* with data\.scale\.$"),
    "integers": (X.long(), r"be floating-point, not torch\.int64: convert with float\(\), then to the range\.$"),
    "booleans": (X > 0, r"be floating-point, not torch\.bool"),
    "complex": (X + 0j, r"be floating-point, not torch\.complex64"),
    "nan": (with_value(float("nan")), r"be finite, but 1 of 4 hold NaN or infinite values\.$"),
    "inf": (with_value(float("-inf")), r"be finite, but 1 of 4 hold"),
    "no channel": (X[:, 0], r"have the shape \(n, 1, height, width\), not \(4, 28, 28\): .* unsqueeze\(1\)"),
    "one image": (X[0, 0], r"not \(28, 28\): add the other axes with \[None, None\]\.$"),
    "RGB": (X.expand(-1, 3, -1, -1), r"not \(4, 3, 28, 28\): make them grey with mean\(1, keepdim=True\)\.$"),
    "channels last": (
        X.permute(0, 2, 3, 1),
        r"not \(4, 28, 28, 1\): put the channels second with permute\(0, 3, 1, 2\)",
    ),
    "flat": (X.flatten(), r"not \(3136,\)\.$"),
    "empty": (X[:0], r"not \(0, 1, 28, 28\): give at least one image\.$"),
    "NumPy": (X.numpy(), r"be a torch tensor, not ndarray: convert with torch\.from_numpy\.$"),
    "Pillow": (PIL.Image.new("L", (28, 28)), r"be a torch tensor, not Image: convert with .*pil_to_tensor"),
    "list": (list(X), r"be a torch tensor, not list: .* torch\.stack a list of tensors\.$"),
    "None": (None, r"be a torch tensor, not NoneType"),
}
OF_ANY_RANGE = ("bytes", "no channel", "RGB", "empty", "NumPy", "list", "booleans", "channels last")
OF_ANY_SHAPE = ("bytes", "NumPy", "list", "booleans", "integers")


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_wrong_is_said(kind):
    images, sentence = WRONG[kind]
    with pytest.raises(ValueError, match=f"^these must .*{sentence}"):
        check_images(images, "these")


@pytest.mark.parametrize(
    "images", [X, X.double(), X.half(), X.bfloat16(), X[:1, :, :4, :4], X + 5e-5, 0 * X, X[0:1] * 0 - 0.5]
)
def test_images_pass(images):
    check_images(images, "these")
    check_images(images, "these", overshoot=True)


@pytest.mark.parametrize("images", [X * 3, X * 2 - 0.1, X + 0.4, X * 1.9, -X - 3, X * 1e6])
def test_outputs_of_a_network_may_leave_the_range(images):
    check_images(images, "these", overshoot=True)


@pytest.mark.parametrize("kind", ["[0, 1]", "0…255", "[−1, 1]", "nan", "RGB", "NumPy"])
def test_outputs_of_another_range_are_refused(kind):
    images, sentence = WRONG[kind]
    with pytest.raises(ValueError, match=sentence):
        check_images(images, "these", overshoot=True)


class Linear(torch.nn.Linear):
    def forward(self, z, time):
        return z * self.weight


OBJECTIVE, BLUR = NoisePrediction(SCHEDULE), DEGRADATIONS["blur"][0](T=3)
STRICT = {
    "image_quality": lambda x: metrics.image_quality(X, x),
    "image_quality, published": lambda x: metrics.image_quality(X, x, "published"),
    "quality_of_each": lambda x: metrics.quality_of_each(X, x),
    "nearest": lambda x: neighbours.nearest(X, x),
    "train": lambda x: next(train(Run(Linear(1, 1)), OBJECTIVE, x, X, epochs=1, batch_size=2)),
    "train, validation": lambda x: next(train(Run(Linear(1, 1)), OBJECTIVE, X, x, epochs=1, batch_size=2)),
    "validate": lambda x: validate(Linear(1, 1), OBJECTIVE, x),
    "mean_loss": lambda x: mean_loss(Linear(1, 1), OBJECTIVE, x),
    "MatchedStart": lambda x: MatchedStart(x, SCHEDULE),
    "loss_profile": lambda x: losses.loss_profile(Linear(1, 1), SCHEDULE, x, [1]),
    "loss_by_step": lambda x: losses.loss_by_step(Linear(1, 1), SCHEDULE, x, rounds=9),
    "generalisation_gap": lambda x: losses.generalisation_gap(Linear(1, 1), SCHEDULE, X, x),
    "cold degrade": lambda x: degrade(BLUR, x),
    "Forgotten": lambda x: starts.Forgotten(BLUR, x),
    "Grey": lambda x: starts.Grey(BLUR, x),
    "Fitted": lambda x: starts.Fitted(BLUR, x),
    "NoisyDigits": lambda x: NoisyDigits(x, X),
}
OUTPUTS = {
    "restored": lambda x: metrics.image_quality(x, X),
    "features": lambda x: metrics.features(lambda batch: batch.flatten(1), x),
    "AffineDecoder": lambda x: AffineDecoder(x, SCHEDULE),
    "ExactDecoder": lambda x: ExactDecoder(x, SCHEDULE),
    "stretch": metrics.stretch,
    "wrapped": metrics.wrapped,
    "nearest": lambda x: neighbours.nearest(x, X),
    "classes": lambda x: samples.classes(torch.nn.Flatten(), x),
}


@pytest.mark.parametrize("kind", ["[0, 1]", "0…255", "[−1, 1]", "standardised", "nan", "RGB", "no channel", "NumPy"])
@pytest.mark.parametrize("function", STRICT)
def test_functions_of_images(function, kind):
    images, sentence = WRONG[kind]
    with pytest.raises(ValueError, match=sentence):
        STRICT[function](images)


@pytest.mark.parametrize("kind", ["[0, 1]", "0…255", "[−1, 1]", "inf", "empty", "bytes", "list"])
@pytest.mark.parametrize("function", OUTPUTS)
def test_functions_of_outputs(function, kind):
    images, sentence = WRONG[kind]
    with pytest.raises(ValueError, match=sentence):
        OUTPUTS[function](images)


@pytest.mark.parametrize("kind", OF_ANY_RANGE)
@pytest.mark.parametrize("draw", [lambda x: image_table([X, x]), lambda x: mosaics({("a", "b"): x})])
def test_pictures_show_any_range(draw, kind):
    images, sentence = WRONG[kind]
    with pytest.raises(ValueError, match=sentence):
        draw(images)


@pytest.mark.parametrize("kind", OF_ANY_SHAPE)
def test_the_forward_process_takes_signals_of_any_shape(kind):
    images, sentence = WRONG[kind]
    for wrong in (
        lambda: diffuse(images, 1, X, SCHEDULE),
        lambda: diffuse_step(images, 1, X, SCHEDULE),
        lambda: posterior(X, images, 1, SCHEDULE),
        lambda: data.to_unit(images),
    ):
        with pytest.raises(ValueError, match=sentence):
            wrong()
    assert diffuse(torch.ones(3, dtype=torch.float64), 1, torch.ones(3, dtype=torch.float64), SCHEDULE).shape == (3,)


@pytest.mark.parametrize(
    ("pixels", "sentence"),
    [
        (
            X[:, 0] + 0.5,
            r"must be torch\.uint8, not torch\.float32: .*floats in \[0, 1\] need no scale, but subtract 0\.5",
        ),
        ((X + 0.5).double(), r"must be torch\.uint8, not torch\.float64"),
        ((255 * (X[:, 0] + 0.5)).int(), r"must be torch\.uint8, not torch\.int32: .* need to\(torch\.uint8\)"),
        (X.byte(), r"must have the shape \(n, height, width\), not \(4, 1, 28, 28\): .* squeeze\(1\)"),
        (X[0, 0].byte(), r"must have the shape \(n, height, width\), not \(28, 28\)"),
        (np.zeros((4, 28, 28), np.uint8), r"must be a torch tensor, not ndarray: convert with torch\.from_numpy"),
    ],
    ids=["floats", "doubles", "integers", "a channel", "one", "NumPy"],
)
def test_scale_takes_bytes(pixels, sentence):
    with pytest.raises(ValueError, match=f"^pixels {sentence}"):
        data.scale(pixels)


# Few images


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 19])
@pytest.mark.parametrize(
    "distance", [metrics.fid, metrics.kid, metrics.fid_interval, metrics.fid_quality, metrics.distribution_quality]
)
def test_distances_of_few_images_are_refused(distance, count):
    some = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    sentence = rf"^FID and KID need at least 20 images on each side, but there are {count} "
    with pytest.raises(ValueError, match=f"{sentence}fake"):
        distance(some[:count], some)
    if distance in (metrics.fid, metrics.kid, metrics.fid_interval):
        with pytest.raises(ValueError, match=f"{sentence}real"):
            distance(some, some[:count])


def test_twenty_are_enough():
    some = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    found = metrics.distribution_quality(some[:20], some)
    assert all(np.isfinite(found[name]).all() for name in ("FID", "FID interval", "FID floor", "KID"))
