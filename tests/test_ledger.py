"""Results are computed once, kept at once, and images survive as text."""

import pytest
import torch

from ddpm_utils.system.errors import CheckpointError
from ddpm_utils.system.files import Ledger, compute_always, to_images, to_text


def test_computes_once_and_survives_a_stop(tmp_path):
    calls = []
    for _ in range(2):
        ledger = Ledger(tmp_path / "folder" / "results.json")
        assert ledger("FID β", lambda: calls.append(1) or {"value": 1.5}) == {"value": 1.5}
    with pytest.raises(KeyboardInterrupt):
        ledger("next", lambda: (_ for _ in ()).throw(KeyboardInterrupt))
    assert Ledger(ledger.path).results == {"FID β": {"value": 1.5}}
    assert calls == [1]


def test_a_damaged_file_is_refused(tmp_path):
    path = tmp_path / "results.json"
    path.write_text('{"FID": 1', encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"json is damaged \(it is not JSON\): delete it to measure again"):
        Ledger(path)


def test_nothing_is_kept_without_a_ledger():
    assert [compute_always("same", iter([value]).__next__) for value in (1, 2)] == [1, 2]


def test_images_survive_as_text(digits):
    images = digits.test.images[:5]
    torch.testing.assert_close(to_images(to_text(images)), images)
    assert to_images(to_text(images * 4)).abs().max() <= 0.5
