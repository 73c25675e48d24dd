"""The Inception extractor without Inception's weights: what it is given, and what is said when there are none."""

import hashlib
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3, FeatureExtractorInceptionV3

from ddpm_utils.evaluation import metrics


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, r"weights cannot be read from .*inception\.pth: No such file"),
        (b"", r"does not hold torch-fidelity's Inception weights \(its sha256 is another\)\.$"),
        (b"not weights", r"does not hold torch-fidelity's Inception weights \(its sha256 is another\)\.$"),
    ],
)
def test_inception_weights_that_are_none(content, sentence, tmp_path):
    path = tmp_path / "inception.pth"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(OSError, match=sentence):
        metrics.inception_extractor(path)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """Where downloads are kept; these bytes are taken for Inception's weights."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setattr(metrics, "INCEPTION_SHA256", hashlib.sha256(b"weights").hexdigest())
    return tmp_path / "hub"


def test_inception_sees_three_channels_of_bytes(hub, tmp_path, monkeypatch):
    """As torch-fidelity wants them; features are what the network gives first, a row for each image."""
    made, downloaded = [], []

    class Network:
        def __init__(self, name, features, path):
            made.append((name, features, Path(path).read_bytes()))

        def __call__(self, images):
            assert (images.dtype, images.shape) == (torch.uint8, (3, 3, 28, 28))
            return images[:, :, 0, 0].float(), "something else"

    def download(url, path, progress):
        downloaded.append(url)
        Path(path).write_bytes(b"weights")

    monkeypatch.setattr("torchmetrics.image.fid.NoTrainInceptionV3", Network)
    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    (tmp_path / "weights.pth").write_bytes(b"weights")
    (hub / "checkpoints").mkdir(parents=True)  # where others have been kept already
    images = torch.tensor([-0.5, 0.0, 9.0]).reshape(3, 1, 1, 1).expand(3, 1, 28, 28)
    for weights in ("download", "download", tmp_path / "weights.pth"):
        seen = metrics.inception_extractor(weights)(images)
        assert seen.tolist() == [[0, 0, 0], [127, 127, 127], [255, 255, 255]]
    assert downloaded == [URL_INCEPTION_V3]  # once
    assert {(name, content) for name, _, content in made} == {("inception-v3-compat", b"weights")}
    for _, features, _ in made:
        assert set(features) <= set(FeatureExtractorInceptionV3.get_provided_features_list())


def test_inception_weights_that_cannot_be_downloaded(hub, monkeypatch):
    def unreachable(*_, **__):
        raise URLError(OSError(-2, "Name or service not known"))

    monkeypatch.setattr(torch.hub, "download_url_to_file", unreachable)
    with pytest.raises(OSError, match="weights cannot be downloaded: Name or service not known"):
        metrics.inception_extractor("download")


def test_a_download_that_was_spoilt_is_to_be_deleted(hub):
    (hub / "checkpoints").mkdir(parents=True)
    (hub / "checkpoints" / Path(URL_INCEPTION_V3).name).write_bytes(b"not weights")
    with pytest.raises(OSError, match=r"\(its sha256 is another\): delete it\.$"):
        metrics.inception_extractor("download")


def test_inception_weights_of_another_network(tmp_path):
    path = tmp_path / "other.pth"
    torch.save({"weight": torch.zeros(2)}, path)
    with pytest.raises(OSError, match="does not hold torch-fidelity's Inception weights"):
        metrics.inception_extractor(path)
