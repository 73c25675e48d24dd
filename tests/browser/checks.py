"""Is a panel's picture right? Its sentence and its pixels against numbers that the panel's own code had no part in.

Each check takes the sentence and the PNG, and raises AssertionError with what is wrong.
"""

import re
from functools import cache

import matplotlib.pyplot as plt
import numpy as np
import torch

from ddpm_utils import checkpoints, randomness
from ddpm_utils.cold.restoration import degrade, restore, visited
from ddpm_utils.diffusion import samplers
from ddpm_utils.diffusion.one_dimension import LatentModel, two_peaks
from ddpm_utils.diffusion.schedules import constant
from ddpm_utils.diffusion.solvers import METHODS
from ddpm_utils.evaluation import load_record, metrics
from ddpm_utils.lab import precomputed
from ddpm_utils.lab.densities import EvidenceBound, LatentModelPicture, PosteriorPicture, ReverseStep
from ddpm_utils.lab.images import CausesPicture, EstimatesPicture, NoisyDigits, RoundTripPicture, TrajectoryPicture
from ddpm_utils.lab.training import LiveTraining
from ddpm_utils.plots.images import BLUE, GREY, RED
from ddpm_utils.randomness import START_SEED, generator_for
from ddpm_utils.system.files import to_images
from ddpm_utils.training.experiments import LEAN, Experiment
from ddpm_utils.training.restorations import RestorationExperiment
from tests.browser.reading import Reading, assert_on_curve, assert_same_images

NUMBER = r"(-?\d+\.?\d*(?:e[-+]?\d+)?|∞)"


def numbers(pattern: str, sentence: str) -> list[float]:
    """The numbers at the places marked # in a pattern that the sentence must follow."""
    found = re.fullmatch(re.escape(pattern).replace(r"\#", NUMBER), sentence)
    assert found, f"the sentence {sentence!r} is not of the form {pattern!r}"
    return [float(value.replace("∞", "inf")) for value in found.groups()]


def close(found: float, expected: float, what: str, tolerance: float = 6e-3) -> None:
    assert np.isclose(found, expected, rtol=tolerance, atol=1e-9), f"{what} is given as {found:g}, not {expected:g}"


def on_log_slider(value: float) -> float:
    """What the slider stood at, of which the sentence has three digits."""
    return 10 ** (round(np.log10(value) * 20) / 20)


def normal(x, mean, deviation):
    return np.exp(-(((x - mean) / deviation) ** 2) / 2) / (deviation * np.sqrt(2 * np.pi))


@cache
def layout(kind: str):
    """A picture of this kind, for where things are in it."""
    x = torch.zeros(8, 1, 28, 28)
    estimate = precomputed.Estimate(x, x, x, x, x, 1.0, 0.0)
    trajectory = precomputed.Trajectory([0.0], [1.0], x[None], x[None])
    choice = precomputed.Choice("DDIM", 1, 0.0, "N(0, I)", 0)
    picture = {
        "forward": lambda: NoisyDigits(x, x),
        "latent model": lambda: LatentModelPicture(waves),
        "bound": lambda: EvidenceBound(LatentModel(waves, 0.2)),
        "posterior": lambda: PosteriorPicture(constant(beta=0.001, T=2000).subset(10)),
        "reverse": lambda: ReverseStep(two_peaks()),
        "training": lambda: LiveTraining(Experiment(**LEAN).with_values(epochs=20), digits()),
        "estimates": lambda: EstimatesPicture({1: estimate}, 1),
        "trajectory": lambda: TrajectoryPicture({choice: trajectory}, 1),
        "round trip": lambda: RoundTripPicture({}),
        "causes": lambda: CausesPicture(record()),
    }[kind]()
    plt.close(picture.figure)
    return picture


def forget() -> None:
    """Before another output folder: its experiment may have other weights."""
    walked.cache_clear()


def waves(z):
    """The f of notebook 02."""
    return z / 2 + np.sin(3 * z)


@cache
def digits():
    return Experiment().load_data()


def forward(sentence: str, png: bytes, noise: torch.Tensor) -> None:
    """Notebook 01: z_t by equation 2, α_t and the signal-to-noise ratio."""
    pattern = "β = #, t = # of #: α_t = #, signal-to-noise ratio #"
    beta, t, T, alpha, ratio = numbers(pattern, sentence)
    expected = (1 - on_log_slider(beta)) ** t
    close(alpha, expected, "α_t")
    close(ratio, expected / (1 - expected) if t else np.inf, "the signal-to-noise ratio")
    picture = layout("forward")
    reading = Reading(png, picture.figure)
    z = expected**0.5 * digits().test.images[:8] + (1 - expected) ** 0.5 * noise
    assert_same_images(reading.images(picture.rows.picture.axes, 1, 8), z[:, 0], f"z_t at t = {t:g}")
    reading.assert_dot(picture.here.axes, RED, t / T, expected, "the dot of α_t")


def reverse(sentence: str, png: bytes) -> None:
    """Notebooks 01 and 05: q(z_{t−1}) and the divergence of q(z_{t−1}|z_t) from its Gaussian, on a grid."""
    pattern = "β = #, α at t − 1 = #, z at t = #: mean #, deviation #, KL to a Gaussian # nats"
    beta, alpha, z, mean, deviation, divergence = numbers(pattern, sentence)
    beta, grid = on_log_slider(beta), np.linspace(-8, 8, 40_001)
    width = np.sqrt(alpha * 0.05**2 + 1 - alpha)
    before = (normal(grid, -0.5 * alpha**0.5, width) + normal(grid, 0.5 * alpha**0.5, width)) / 2
    product = before * normal(z, np.sqrt(1 - beta) * grid, np.sqrt(beta))
    step = grid[1] - grid[0]
    product /= product.sum() * step
    m = (product * grid).sum() * step
    s = np.sqrt((product * (grid - m) ** 2).sum() * step)
    some = product > 1e-200
    kl = (product[some] * np.log(product[some] / normal(grid[some], m, s))).sum() * step
    assert abs(mean - m) < 2e-3, f"the mean is given as {mean}, not {m:.3f}"
    close(deviation, s, "the deviation")
    assert np.isclose(divergence, kl, rtol=0.06, atol=1e-6), f"the divergence is given as {divergence}, not {kl:.2g}"
    axes = layout("reverse").before.axes
    x = np.linspace(-2, 2, 60)
    reading = Reading(png, layout("reverse").figure)
    assert_on_curve(reading.distances(axes, BLUE, x, np.interp(x, grid, before)), "q(z_{t−1})")


def latent_model(sentence: str, png: bytes) -> None:
    """Notebook 02: p(x), the joint density summed over z."""
    (sigma,) = numbers("A latent variable model with σ = #", sentence)
    z, x = np.linspace(-6, 6, 6001), np.linspace(-2.9, 2.9, 60)
    density = (normal(x[:, None], waves(z), on_log_slider(sigma)) * normal(z, 0, 1)).sum(1) * (z[1] - z[0])
    picture = layout("latent model")
    reading = Reading(png, picture.figure)
    assert_on_curve(reading.distances(picture.margin.axes, BLUE, density, x), "p(x)")


def bound(sentence: str, png: bytes) -> None:
    """Notebook 02: log p(x), and KL(q ‖ p(z|x)) on a grid."""
    pattern = "x = #, q = N(#, #²): log p(x) = #, ELBO = #, gap = #"
    x, mean, deviation, evidence, elbo, gap = numbers(pattern, sentence)
    deviation, z = on_log_slider(deviation), np.linspace(-9, 9, 90_001)
    step = z[1] - z[0]
    log_joint = np.log(normal(z, 0, 1)) - ((x - waves(z)) / 0.2) ** 2 / 2 - np.log(0.2 * np.sqrt(2 * np.pi))
    log_evidence = np.log(np.exp(log_joint).sum() * step)
    q = normal(z, mean, deviation)
    kl = (q * (np.log(q + 1e-300) - log_joint + log_evidence)).sum() * step
    assert abs(evidence - log_evidence) < 2e-3, f"log p(x) is given as {evidence}, not {log_evidence:.3f}"
    assert np.isclose(gap, kl, rtol=1e-3, atol=2e-3), f"the gap is given as {gap}, not {kl:.3f}"
    assert abs(evidence - elbo - gap) < 3e-3
    picture = layout("bound")
    if gap < picture.deepest:
        reading = Reading(png, picture.figure)
        reading.assert_dot(picture.here.axes, RED, mean, -kl, "the dot of the ELBO")


def posterior(sentence: str, png: bytes) -> None:
    """Notebook 01: the posterior of one pixel by Bayes' rule on a grid."""
    pattern = "t = # of #, x = #, z_t = #: posterior with mean #, deviation #"
    t, _, x, z, mean, deviation = numbers(pattern, sentence)
    t, picture = int(t), layout("posterior")
    alpha = picture.schedule.alpha
    close(z, alpha[t] ** 0.5 * x + 1.5 * (1 - alpha[t]) ** 0.5, "z_t", 1e-2)
    if t == 1:
        assert (mean, deviation) == (x, 0), "z_0 is x itself"
        return
    grid = np.linspace(-4, 4, 40_001)
    z = alpha[t] ** 0.5 * x + 1.5 * (1 - alpha[t]) ** 0.5
    kept = alpha[t] / alpha[t - 1]
    product = normal(grid, alpha[t - 1] ** 0.5 * x, np.sqrt(1 - alpha[t - 1])) * normal(
        z, np.sqrt(kept) * grid, np.sqrt(1 - kept)
    )
    product /= product.sum() * (grid[1] - grid[0])
    m = (grid * product).sum() / product.sum()
    close(mean, m, "the mean", 1e-2)
    close(deviation, np.sqrt(((grid - m) ** 2 * product).sum() / product.sum()), "the deviation", 1e-2)
    points = np.linspace(m - 2 * deviation, m + 2 * deviation, 40)
    reading = Reading(png, picture.figure)
    distances = reading.distances(picture.after.axes, RED, points, np.interp(points, grid, product))
    assert_on_curve(distances, "the posterior")


def estimates(sentence: str, png: bytes, experiment: Experiment) -> None:
    """Notebook 02: what the network answers, asked here once more."""
    t, T, alpha, error = numbers("t = # of #, α_t = #: mean squared error of ε #", sentence)
    a = experiment.noise_schedule.alpha[int(t)]
    close(alpha, a, "α_t")
    x = digits().test.images[:8]
    (noise,) = experiment.objective.draw(x, generator_for(0, "shown"))
    z = a**0.5 * x + (1 - a) ** 0.5 * noise
    with torch.inference_mode():
        g = experiment.load_decoder("shipped").network(z, torch.full((8,), t / T))
    assert abs(error - (g - noise).square().mean().item()) < 1.5e-3, "the error is another one"
    picture = layout("estimates")
    found = Reading(png, picture.figure).images(picture.rows.picture.axes, 6, 8)
    expected = {"x": x, "z_t": z, "ε / 4": noise / 4, "g / 4": g / 4, "4(g − ε)": 4 * (g - noise)}
    expected["x̂"] = (z - (1 - a) ** 0.5 * g) / a**0.5
    for row, (name, images) in zip(found, expected.items(), strict=True):
        assert_same_images(row, images[:, 0], f"{name} at t = {t:g}")


def training(sentence: str, png: bytes, output) -> None:
    """Notebook 02: the run on disk is at the step that is told, with the losses that are drawn."""
    step, _ = numbers("Stopped at step # of #; the run is kept, and goes on from here", sentence)
    (folder,) = (output / "data" / "runs").glob("*/watched-mnist_5k-seed0")
    _, state = checkpoints.load(folder / "last.safetensors")
    assert state["step"] == step, f"the run on disk is at step {state['step']}, not {step:g}"
    picture = layout("training")
    reading = Reading(png, picture.figure)
    first = int(step) - len(state["epoch_losses"]) + 1
    points = range(first, int(step) + 1)
    assert_on_curve(reading.distances(picture.batch.axes, BLUE, points, state["epoch_losses"]), "the loss")
    for stop, row in zip(picture.stops, reading.images(picture.rows.picture.axes, 6, 8), strict=True):
        assert (row.std() > 0.1) == (stop <= step), f"at step {step:g} the samples of step {stop} are not right"


@cache
def walked(experiment: Experiment, sampler: str, calls: int, start: str, seed: int):
    """z_T and the latents of a sampler's whole way, with the steps of the schedule that they are at."""
    name, _, eta = sampler.partition(", η = ")
    schedule, network = experiment.noise_schedule, experiment.load_decoder("auto").network
    method = METHODS["DDIM, η = 0"] if name == "DDIM" else METHODS[sampler]
    chain = schedule.subset((calls + 1) // 2 if name == "Heun" else calls, method.spacing)
    options = {"eta": float(eta)} if name == "DDIM" else {}
    starts = {"N(0, I)": samplers.standard_start, "matched": samplers.MatchedStart(digits().train.images, schedule)}
    seeds = range(START_SEED + 8 * seed, START_SEED + 8 * (seed + 1))
    options |= {"start": starts[start], "count": 8, "seed": START_SEED + 8 * seed}
    way = samplers.sample_trajectory(method.sampler, network, chain, keep=range(chain.T), **options)
    return chain, [starts[start](randomness.Noise(seeds)), *(way[t].z for t in reversed(range(chain.T)))]


def trajectory(sentence: str, png: bytes, experiment: Experiment) -> None:
    """Notebook 03: the sampler, walked here once more."""
    form = r"t = (\d+) of \d+, nearest visited step (\d+), α = ([\d.e-]+): (.+), (\d+) calls, from (.+), seed (\d+)"
    found = re.fullmatch(form, sentence)
    assert found, f"the sentence {sentence!r} is not of the form {form!r}"
    t, visited_step, alpha, sampler, calls, start, seed = found.groups()
    chain, way = walked(experiment, sampler, int(calls), start, int(seed))
    place = int(np.abs(chain.time[::-1] * experiment.T - int(t)).argmin())
    nearest = round(chain.time[::-1][place] * experiment.T)
    assert nearest == int(visited_step), f"the nearest visited step is {nearest}, not {visited_step}"
    close(float(alpha), chain.alpha[::-1][place], "α_t")
    picture = layout("trajectory")
    rows = Reading(png, picture.figure).images(picture.rows.picture.axes, 2, 8)
    assert_same_images(rows[0], way[place][:, 0], f"z_t at t = {t}")
    network, z = experiment.load_decoder("auto").network, way[place]
    if nearest:
        with torch.inference_mode():
            g = network(z, torch.full((8,), float(chain.time[::-1][place])))
        a = chain.alpha[::-1][place]
        z = (z - (1 - a) ** 0.5 * g) / a**0.5
    assert_same_images(rows[1], z[:, 0], f"x̂ at t = {t}")


@cache
def record():
    """What is recorded of the causes of β = 0.1."""
    return load_record("decomposition")


def causes(sentence: str, png: bytes) -> None:
    """Notebook 04: the cell that the sentence names, in the record: its mean FID, its samples, and its place."""
    form = rf"(.+), σ² (beta|posterior): (?:FID {NUMBER}, mean of (\d+) networks|not measured)"
    found = re.fullmatch(form, sentence)
    assert found, f"the sentence {sentence!r} is not of the form {form!r}"
    named, variance, mean, networks = found.groups()
    cells = {
        ", ".join(cell[name] for name in ("network", "trained_on", "grid", "index", "start")): cell
        for cell in record()["cells"].values()
    }
    cell = cells.get(named, {})
    scores = [measured["FID"] for measured in cell.get(variance, {}).values()]
    assert int(networks or 0) == len(scores), f"{networks or 0} networks are given as measured, not {len(scores)}"
    if scores:
        close(float(mean), np.mean(scores), "the mean FID")
    picture = layout("causes")
    reading = Reading(png, picture.figure)
    samples = to_images(cell["pictures"]) if "pictures" in cell else torch.full((8, 1, 28, 28), 0.5)  # white paper
    assert_same_images(reading.images(picture.rows.picture.axes, 2, 4), samples, f"the samples of {named}")
    for place, name in enumerate(cells):
        axes = picture.band.axes
        shares = [reading.share(axes, GREY, picture.band.get_alpha(), place + beside) for beside in (-0.33, 0.33)]
        right = min(shares) > 0.8 if name == named else max(shares) < 0.2
        found = f"only {shares[0]:.0%} of the pixels above {name} and {shares[1]:.0%} below have the band's colour"
        assert right, f"{named}: {found}"


@cache
def back_from(name: str, t: int, algorithm: str):
    """One digit of each class, degraded to t, and what comes back."""
    kind = RestorationExperiment(name)
    labels = digits().test.labels
    x = digits().test.images[[int((labels == digit).nonzero()[0]) for digit in range(10)]]
    z, context = degrade(kind.process, x, t)
    steps = visited(kind.process.T, 6, t)
    answer, _ = restore(kind.load_decoder("shipped").network, kind.process, z, context, algorithm, steps=steps)
    return x, z, answer


def round_trip(sentence: str, png: bytes) -> None:
    """Notebook 05: x, z_t and the way's end, made here once more."""
    form = r"Digit (\d), (\w+) to t = (\d+) of (\d+), and back (directly|by algorithm [12]): RMSE ([\d.]+)"
    found = re.fullmatch(form, sentence)
    assert found, f"the sentence {sentence!r} is not of the form {form!r}"
    digit, name, t, way = int(found[1]), found[2], int(found[3]), found[5]
    x, z, answer = back_from(name, t, "direct" if way == "directly" else way[-1])
    rmse = metrics.image_quality(answer[digit : digit + 1], x[digit : digit + 1])["RMSE"]
    assert abs(float(found[6]) - rmse) < 1.5e-3, f"the RMSE is given as {found[6]}, not {rmse:.3f}"
    picture = layout("round trip")
    rows = Reading(png, picture.figure).images(picture.rows.picture.axes, 2, 7)
    assert_same_images(rows[0, 0], x[digit], "x")
    assert_same_images(rows[1, 0], answer[digit], "what comes back")
    stages = min(7, t + 1)
    assert_same_images(rows[0, stages - 1], z[digit], "z_t")
