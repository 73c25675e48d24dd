"""The Inception extractor without Inception's weights: what it is given, and what is said when there are none."""

from urllib.error import URLError

import pytest
import torch
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from ddpm_utils import metrics


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, r"weights cannot be read from .*inception\.pth: No such file"),
        (b"", "does not hold torch-fidelity's Inception weights"),
        (b"not weights", "does not hold torch-fidelity's Inception weights"),
    ],
)
def test_inception_weights_that_are_none(content, sentence, tmp_path):
    path = tmp_path / "inception.pth"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(OSError, match=sentence):
        metrics.inception_extractor(path)


def test_inception_sees_three_channels_of_bytes(monkeypatch):
    """As torch-fidelity wants them; features are what the network gives first, a row for each image."""
    made = []

    class Network:
        def __init__(self, name, features, path):
            made.append((name, features, path))

        def __call__(self, images):
            assert (images.dtype, images.shape) == (torch.uint8, (3, 3, 28, 28))
            return images[:, :, 0, 0].float(), "something else"

    monkeypatch.setattr(metrics, "NoTrainInceptionV3", Network)
    images = torch.tensor([-0.5, 0.0, 9.0]).reshape(3, 1, 1, 1).expand(3, 1, 28, 28)
    for weights in ("download", "weights.pth"):
        seen = metrics.inception_extractor(weights)(images)
        assert seen.tolist() == [[0, 0, 0], [127, 127, 127], [255, 255, 255]]
    assert [path for _, _, path in made] == [None, "weights.pth"]
    assert {name for name, _, _ in made} == {"inception-v3-compat"}
    for _, features, _ in made:
        assert set(features) <= set(FeatureExtractorInceptionV3.get_provided_features_list())


def test_inception_weights_that_cannot_be_downloaded(monkeypatch):
    def unreachable(*_):
        raise URLError(OSError(-2, "Name or service not known"))

    monkeypatch.setattr(metrics, "NoTrainInceptionV3", unreachable)
    with pytest.raises(OSError, match="weights cannot be downloaded: Name or service not known"):
        metrics.inception_extractor("download")


def test_inception_weights_of_another_network(tmp_path):
    path = tmp_path / "other.pth"
    torch.save({"weight": torch.zeros(2)}, path)
    with pytest.raises(OSError, match="does not hold torch-fidelity's Inception weights"):
        metrics.inception_extractor(path)
