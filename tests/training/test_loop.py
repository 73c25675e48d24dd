import csv

import pytest
import torch
from torch import nn

from ddpm_utils import checkpoints, randomness
from ddpm_utils.cold.degradations import Degradation
from ddpm_utils.diffusion.schedules import constant
from ddpm_utils.networks.cnn import CNN
from ddpm_utils.networks.spectral import use_convolution, with_spectral_convolutions
from ddpm_utils.system import files
from ddpm_utils.system.errors import CheckpointError
from ddpm_utils.training import loop
from ddpm_utils.training.loop import train
from ddpm_utils.training.objectives import NoisePrediction, Restoration, validate
from ddpm_utils.training.run import EpochRecord, Run

SCHEDULE = constant(beta=0.1, T=20)
OBJECTIVE = NoisePrediction(SCHEDULE)


class Function(nn.Module):
    """A function in a network's clothes."""

    def __init__(self, function):
        super().__init__()
        self.function = function
        self.nothing = nn.Parameter(torch.zeros(()))

    def forward(self, z, time):
        return self.function(z, time)


class Tiny(nn.Module):
    """A decoder of 74 parameters."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(2, 4, 3, padding=1, bias=False), nn.Conv2d(4, 1, 1, bias=False)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.first.reset_parameters()
            self.second.reset_parameters()

    def forward(self, z, time):
        clock = time[:, None, None, None].expand_as(z)
        return self.second(self.first(torch.cat([z, clock], 1)).tanh())


@pytest.fixture(scope="module")
def images(digits):
    return digits.train.images[:34]


@pytest.fixture(scope="module")
def validation(digits):
    return digits.validation.images[:20]


def go(run, images, validation, *, objective=OBJECTIVE, epochs=3, stop=None, lr_schedule="constant"):
    """Train on 4 steps of 8 images per epoch, up to a step."""
    steps = train(run, objective, images, validation, epochs=epochs, batch_size=8, lr_schedule=lr_schedule)
    losses = []
    for progress in steps:
        losses.append(progress.losses["train"])
        if progress.step == stop:
            break
    steps.close()
    return losses


def assert_same(run: Run, other: Run):
    assert run.step == other.step
    a, b = run.network.state_dict(), other.network.state_dict()
    assert all(torch.equal(x, y) for x, y in zip(a.values(), b.values(), strict=True))
    assert [record[:3] for record in run.history] == [record[:3] for record in other.history]  # all but the seconds


# Objectives


@pytest.mark.parametrize("t", [1, 5, 20])
def test_loss_of_the_identity(t, digits):
    """ε̂ = z_t has the expected loss α_t·E[x²] + (1 − √(1−α_t))²."""
    x = digits.train.images[:500]
    (noise,) = OBJECTIVE.draw(x, torch.Generator().manual_seed(0))
    losses = OBJECTIVE(Function(lambda z, time: z), x, torch.full((len(x),), t), noise)
    alpha = SCHEDULE.alpha[t]
    expected = alpha * x.square().flatten(1).mean(1) + (1 - (1 - alpha) ** 0.5) ** 2  # of each image
    difference = losses - expected
    assert difference.mean().abs() < 4 * difference.std() / len(x) ** 0.5


def test_a_perfect_decoder_has_no_loss(images):
    t = torch.arange(len(images)) % SCHEDULE.T + 1
    alpha = torch.tensor(SCHEDULE.alpha).float()[t].reshape(-1, 1, 1, 1)
    (noise,) = OBJECTIVE.draw(images, torch.Generator().manual_seed(0))
    perfect = Function(lambda z, time: (z - alpha.sqrt() * images) / (1 - alpha).sqrt())
    assert OBJECTIVE(perfect, images, t, noise).max() < 1e-10


def test_the_network_is_told_t_over_T(images):
    times = []
    OBJECTIVE(Function(lambda z, time: times.append(time) or z), images[:3], torch.tensor([1, 10, 20]), images[:3])
    assert times[0].tolist() == pytest.approx([0.05, 0.5, 1])


class Dim(Degradation):
    T = 4

    def __call__(self, x, t, context=None):
        return x * 0.5 ** t.reshape(-1, 1, 1, 1)


@pytest.mark.parametrize("norm", [1, 2])
def test_restoration(norm, images):
    objective = Restoration(Dim(), norm)
    t = torch.arange(len(images)) % 4 + 1
    drawn = objective.draw(images, torch.Generator())
    perfect = Function(lambda z, time: z * 2 ** (4 * time).reshape(-1, 1, 1, 1))
    assert objective(perfect, images, t, *drawn).max() == 0
    biased = Function(lambda z, time: perfect(z, time) - 0.1)
    assert objective(biased, images, t, *drawn).tolist() == pytest.approx([0.1**norm] * len(images), rel=1e-4)


def test_restoration_adds_noise_of_sigma(images):
    """R(z) = z/0.5 at t = 1 errs by 2σε, whose square is 4σ² on average."""
    objective = Restoration(Dim(), norm=2, sigma=0.1)
    many = images[:1].expand(200, -1, -1, -1)
    t = torch.ones(200, dtype=torch.long)
    drawn = objective.draw(many, torch.Generator().manual_seed(0))
    losses = objective(Function(lambda z, time: 2 * z), many, t, *drawn)
    assert losses.mean().item() == pytest.approx(4 * 0.1**2, rel=0.02)
    seen = []
    objective(Function(lambda z, time: seen.append(z) or z), many, t, *drawn)
    assert torch.equal(seen[0], objective.degradation(many, t, drawn[0]) + 0.1 * drawn[1])


def test_restoration_draws_noise_only_if_there_is_a_sigma(images):
    for sigma in (0.0, 0.1):
        generator = torch.Generator().manual_seed(0)
        _, *noise = Restoration(Dim(), sigma=sigma).draw(images, generator)
        assert len(noise) == (sigma > 0)
        assert torch.equal(generator.get_state(), torch.Generator().manual_seed(0).get_state()) == (sigma == 0)


def test_restoration_refuses_other_norms():
    with pytest.raises(ValueError, match="norm must be 1 or 2, not 3"):
        Restoration(Dim(), 3)
    with pytest.raises(ValueError, match="sigma must be a number from 0 to 1000, not -1"):
        Restoration(Dim(), sigma=-1.0)
    assert Restoration(Dim(), sigma=1000).sigma == 1000


# Steps


def test_t_is_uniform_and_both_ends_are_drawn(images, validation):
    drawn = []

    class Recording(NoisePrediction):
        def __call__(self, network, x, t, noise):
            if network.training:
                drawn.append(t)
            return super().__call__(network, x, t, noise)

    go(Run(Tiny()), images, validation[:1], objective=Recording(constant(beta=0.1, T=4)), epochs=15)
    count = torch.cat(drawn).bincount(minlength=6)
    assert count.sum() == 15 * 32
    assert (count[0], count[5]) == (0, 0)
    assert (count[1:5] - 120).abs().max() < 4 * (480 * 0.25 * 0.75) ** 0.5


def test_every_image_is_drawn_at_most_once_per_epoch(images, validation):
    numbered = (torch.arange(34) / 100).reshape(-1, 1, 1, 1).expand(-1, 1, 28, 28).contiguous()
    seen = []

    class Recording(NoisePrediction):
        def draw(self, x, generator):
            seen.extend((100 * x[:, 0, 0, 0]).round().int().tolist() if len(x) == 8 else [])
            return super().draw(x, generator)

    go(Run(Tiny()), numbered, validation, objective=Recording(SCHEDULE), epochs=2)
    first, second = seen[:32], seen[32:64]  # and the first batch of a third epoch
    assert len(set(first)) == len(set(second)) == 32
    assert first != second


def test_progress(images, validation):
    progress = list(train(Run(Tiny()), OBJECTIVE, images, validation, epochs=2, batch_size=8))
    assert [(p.epoch, p.step) for p in progress] == [(1, 1), (1, 2), (1, 3), (1, 4), (2, 5), (2, 6), (2, 7), (2, 8)]
    assert [p.step for p in progress if "validation" in p.losses] == [4, 8]
    assert progress[3].losses["epoch_train"] == pytest.approx(sum(p.losses["train"] for p in progress[:4]) / 4)


def test_the_reports_network_learns(digits):
    images, validation = digits.train.images[:160], digits.validation.images[:64]
    torch.manual_seed(0)
    run = Run(CNN(), learning_rate=1e-3)
    before = validate(run.network, OBJECTIVE, validation).mean().item()
    for _ in train(run, OBJECTIVE, images, validation, epochs=1, batch_size=16):
        pass
    assert before > 0.9  # it knows nothing, and the noise has variance 1
    assert run.best.validation_loss < 0.9 * before


def test_training_does_not_depend_on_the_global_generator(images, validation):
    runs = [Run(Tiny()), Run(Tiny())]
    for seed, run in enumerate(runs):
        torch.manual_seed(seed)
        go(run, images, validation)
    assert_same(*runs)


# Interruptions


@pytest.mark.parametrize("save_seconds", [-1, 30])
@pytest.mark.parametrize("stops", [[1], [4], [3, 4, 6], [8, 11]], ids=str)
def test_resumed_equals_uninterrupted(stops, save_seconds, images, validation, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "SAVE_SECONDS", save_seconds)
    whole = Run(Tiny())
    expected = go(whole, images, validation)
    losses = []
    for stop in (*stops, None):
        run = Run(Tiny(), folder=tmp_path)
        losses += go(run, images, validation, stop=stop)
    assert losses == expected
    assert_same(run, whole)
    assert_same(Run(Tiny(), folder=tmp_path), whole)


def test_a_resumed_run_keeps_the_form_of_its_convolutions(images, validation, tmp_path):
    """Whatever is faster here and now: the two forms round differently."""

    def make(form: str) -> CNN:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            network = with_spectral_convolutions(CNN())
        use_convolution(network, form)
        return network

    whole, other = Run(make("direct")), Run(make("spectral"))
    expected = go(whole, images, validation, epochs=1)
    assert go(other, images, validation, epochs=1) != expected
    losses = []
    for form, stop in (("direct", 1), ("spectral", 3), ("direct", None)):
        run = Run(make(form), folder=tmp_path)
        losses += go(run, images, validation, epochs=1, stop=stop)
    assert losses == expected
    assert_same(run, whole)
    for name in ("best", "last"):
        _, description = checkpoints.load(tmp_path / f"{name}.safetensors")
        assert description.get("run", description)["convolution"] == "direct"


def test_resumes_a_network_in_channels_last(images, validation, tmp_path):
    """Fused Adam reads weights and moments in the order of memory: a moment that is laid out otherwise is scrambled."""

    def make() -> Tiny:
        return Tiny().to(memory_format=torch.channels_last)

    whole = Run(make())
    assert not whole.network.first.weight.is_contiguous()
    expected = go(whole, images, validation)
    losses = [loss for stop in (3, None) for loss in go(Run(make(), folder=tmp_path), images, validation, stop=stop)]
    assert losses == expected


def test_one_cycle_rises_and_falls():
    factors = [loop.one_cycle(progress) for progress in (0, 0.025, 0.05, 0.05 + 0.95 / 2, 1)]
    assert factors == pytest.approx([0, 0.5, 1, 0.5, 0])


def test_a_cycle_sets_the_learning_rate_of_each_step_and_resumes(images, validation, tmp_path):
    whole = Run(Tiny(), learning_rate=0.01)
    rates = []
    for _ in train(whole, OBJECTIVE, images, validation, epochs=3, batch_size=8, lr_schedule="one_cycle"):
        rates.append(whole.optimizer.param_groups[0]["lr"])
    assert rates == pytest.approx([0.01 * loop.one_cycle(step / 12) for step in range(12)])
    for stop in (2, 7, None):
        run = Run(Tiny(), learning_rate=0.01, folder=tmp_path)
        go(run, images, validation, stop=stop, lr_schedule="one_cycle")
    assert_same(run, whole)


def test_refuses_an_unknown_lr_schedule(images, validation):
    with pytest.raises(ValueError, match="lr_schedule must be one of constant, one_cycle, not 'cyclic'"):
        go(Run(Tiny()), images, validation, lr_schedule="cyclic")


@pytest.mark.parametrize("save_seconds", [-1, 30])
@pytest.mark.parametrize("call", [3, 6, 9])
def test_ctrl_c_in_the_middle_of_a_step(call, save_seconds, images, validation, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "SAVE_SECONDS", save_seconds)
    calls = []

    class Interrupted(NoisePrediction):
        def __call__(self, *arguments):
            calls.append(1)
            if len(calls) == call:
                raise KeyboardInterrupt
            return super().__call__(*arguments)

    with pytest.raises(KeyboardInterrupt):
        go(Run(Tiny(), folder=tmp_path), images, validation, objective=Interrupted(SCHEDULE))
    run, whole = Run(Tiny(), folder=tmp_path), Run(Tiny())
    go(run, images, validation)
    go(whole, images, validation)
    assert_same(run, whole)


def test_more_epochs_later(images, validation, tmp_path):
    go(Run(Tiny(), folder=tmp_path), images, validation, epochs=1)
    longer, whole = Run(Tiny(), folder=tmp_path), Run(Tiny())
    go(longer, images, validation, epochs=3)
    go(whole, images, validation, epochs=3)
    assert_same(longer, whole)
    assert go(longer, images, validation, epochs=3) == []


# What a run keeps


def test_best_last_and_snapshots(tmp_path):
    """Weights are set to the epoch's number, so that each file tells which epoch it holds."""

    class Times(nn.Linear):
        def forward(self, z, time):
            return self.weight * z

    run = Run(Times(1, 1, bias=False), folder=tmp_path, snapshots=(1, 3), description={"beta": 0.1})
    for epoch, loss in enumerate([0.3, 0.1, 0.2, 0.4], start=1):
        nn.init.constant_(run.network.weight, epoch)
        run.finish_epoch(EpochRecord(epoch, 0.0, loss, 0.0))
    network = Times(1, 1, bias=False)
    for name, epoch in {"best": 2, "epoch1": 1, "epoch3": 3}.items():
        description = checkpoints.load_network(tmp_path / f"{name}.safetensors", network, beta=0.1, epoch=epoch)
        assert network.weight.item() == epoch
        assert description["validation_loss"] == run.history[epoch - 1].validation_loss
    again = Run(Times(1, 1, bias=False), folder=tmp_path, description={"beta": 0.1})
    assert again.network.weight.item() == 4
    assert again.best.epoch == 2
    assert not (tmp_path / "epoch2.safetensors").exists()


def test_best_weights_have_the_recorded_loss(images, validation, tmp_path):
    run = Run(Tiny(), folder=tmp_path, learning_rate=0.1)
    go(run, images, validation, epochs=4)
    network = Tiny()
    description = checkpoints.load_network(tmp_path / "best.safetensors", network)
    loss = validate(network, OBJECTIVE, validation).mean().item()
    assert loss == description["validation_loss"] == min(record.validation_loss for record in run.history)


def test_losses_csv(images, validation, tmp_path):
    run = Run(Tiny(), folder=tmp_path)
    go(run, images, validation)
    with (tmp_path / "losses.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["epoch"]) for row in rows] == [1, 2, 3]
    assert [float(row["train_loss"]) for row in rows] == [record.train_loss for record in run.history]
    assert [float(row["validation_loss"]) for row in rows] == [record.validation_loss for record in run.history]


@pytest.mark.parametrize("write", range(1, 11))
def test_stopped_at_any_write_and_resumed_it_leaves_the_same_files(write, images, validation, tmp_path, monkeypatch):
    """Three epochs write ten files; the process ends before one of them is there."""

    def left(folder):
        tensors = {path.name: checkpoints.load(path)[0] for path in folder.glob("*.safetensors")}
        rows = [row[:3] for row in csv.reader((folder / "losses.csv").read_text().splitlines())]
        return {name: checkpoints.digest(found) for name, found in tensors.items()}, rows

    def stop_there(path, content):
        written.append(path)
        if len(written) == write:
            raise KeyboardInterrupt
        write_bytes(path, content)

    go(Run(Tiny(), folder=tmp_path / "alone", snapshots=[2]), images, validation)
    written, write_bytes = [], files.write_bytes
    for module in (checkpoints, files):  # of tensors, and of losses.csv
        monkeypatch.setattr(module, "write_bytes", stop_there)
    with pytest.raises(KeyboardInterrupt):
        go(Run(Tiny(), folder=tmp_path / "stopped", snapshots=[2]), images, validation)
    go(Run(Tiny(), folder=tmp_path / "stopped", snapshots=[2]), images, validation)
    assert left(tmp_path / "stopped") == left(tmp_path / "alone")


# Validation


def test_validation_is_the_same_at_every_call(validation):
    network = Tiny()
    torch.manual_seed(1)
    first = validate(network, OBJECTIVE, validation)
    torch.manual_seed(2)
    state = torch.get_rng_state()
    assert torch.equal(validate(network, OBJECTIVE, validation), first)
    assert torch.equal(torch.get_rng_state(), state)
    assert network.training
    assert not torch.equal(validate(network, OBJECTIVE, validation, seed=1), first)


def test_validation_spreads_t_evenly(validation):
    seen = []

    class Recording(NoisePrediction):
        def __call__(self, network, x, t, noise):
            seen.append(t)
            return super().__call__(network, x, t, noise)

    validate(Tiny(), Recording(constant(beta=0.1, T=5)), validation)
    assert torch.cat(seen).bincount().tolist() == [0, 4, 4, 4, 4, 4]


def test_streams_differ_by_seed_and_key():
    keys = [(0, "step", 0), (0, "step", 1), (1, "step", 0), (0, "order", 0), (0, "validation", 0)]
    draws = [torch.randn(5, generator=randomness.generator_for(*key)) for key in keys]
    again = [torch.randn(5, generator=randomness.generator_for(*key)) for key in keys]
    assert all(torch.equal(a, b) for a, b in zip(draws, again, strict=True))
    assert len({tuple(draw.tolist()) for draw in draws}) == len(keys)


# Refusals


def test_refuses_a_batch_larger_than_the_data(images, validation):
    with pytest.raises(ValueError, match="batch_size = 35 is larger than the 34 training images"):
        next(train(Run(Tiny()), OBJECTIVE, images, validation, epochs=1, batch_size=35))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"description": {"beta": 0.2}}, "holds a run with beta = 0.1, not 0.2: delete the folder"),
        ({"learning_rate": 1e-3}, "holds a run with learning_rate = 0.0002, not 0.001"),
    ],
    ids=["description", "learning_rate"],
)
def test_refuses_another_run(change, sentence, tmp_path):
    Run(Tiny(), folder=tmp_path, description={"beta": 0.1}).save()
    with pytest.raises(CheckpointError, match=sentence):
        Run(Tiny(), folder=tmp_path, **{"description": {"beta": 0.1}} | change)


def test_refuses_a_truncated_state(images, validation, tmp_path):
    go(Run(Tiny(), folder=tmp_path), images, validation, epochs=1)
    last = tmp_path / "last.safetensors"
    last.write_bytes(last.read_bytes()[:-10])
    with pytest.raises(CheckpointError, match=r"last\.safetensors is damaged"):
        Run(Tiny(), folder=tmp_path)


def test_stops_when_the_loss_is_not_finite(images, validation, tmp_path):
    go(Run(Tiny(), folder=tmp_path), images, validation, epochs=1)
    before = (tmp_path / "last.safetensors").read_bytes()
    run = Run(Tiny(), folder=tmp_path)
    torch.nn.init.constant_(run.network.first.weight, float("nan"))
    with pytest.raises(FloatingPointError, match=r"the loss became nan at step 5, while"):
        go(run, images, validation)
    assert (tmp_path / "last.safetensors").read_bytes() == before
    assert Run(Tiny(), folder=tmp_path).step == 4
