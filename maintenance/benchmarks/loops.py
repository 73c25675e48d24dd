"""Training loops around the report's CNN: the coursework's, other libraries' and ours; each run is STEPS steps."""

import itertools
from collections.abc import Iterator

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from ddpm_utils import data
from ddpm_utils.diffusion.schedules import constant
from ddpm_utils.networks.cnn import CNN
from ddpm_utils.networks.cpu import convolution, keep_freed_memory
from ddpm_utils.networks.spectral import use_convolution, with_spectral_convolutions
from ddpm_utils.system import places
from ddpm_utils.training import run as training_run
from ddpm_utils.training.loop import train
from ddpm_utils.training.objectives import NoisePrediction
from maintenance.benchmarks.networks import BATCH, STEPS, require_bfloat16
from maintenance.benchmarks.race import Run


def mnist_loader() -> Iterator[Tensor]:
    """The coursework's data: torchvision's data set, transformed image by image, in a DataLoader; without end."""
    from torch.utils.data import DataLoader, TensorDataset
    from torchvision import transforms
    from torchvision.datasets import MNIST

    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.5,), (1.0,))])
    try:
        images = MNIST(places.default_root(), train=True, transform=transform)
    except RuntimeError:  # no full MNIST here: the embedded digits, which is a little faster
        digits = data.load("mnist_5k").train
        images = TensorDataset(digits.images, digits.labels)
    loader = DataLoader(images, batch_size=BATCH, shuffle=True, drop_last=True)
    return (images for images, _ in itertools.chain.from_iterable(itertools.repeat(loader)))


def plain_loop(compiled: bool = False) -> Run:
    """The coursework's loop: eager PyTorch, one batch after the other from a DataLoader."""
    torch.manual_seed(0)
    network = CNN()
    answer = torch.compile(network) if compiled else network
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-4)
    alpha, batches = torch.from_numpy(constant(beta=0.001, T=2000).alpha).float(), mnist_loader()

    def run() -> int:
        for x in itertools.islice(batches, STEPS):
            t = torch.randint(1, len(alpha), (len(x),))
            noise = torch.randn_like(x)
            kept = alpha[t].reshape(-1, 1, 1, 1)
            z = kept.sqrt() * x + (1 - kept).sqrt() * noise
            loss = (answer(z, t / (len(alpha) - 1)) - noise).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loss.item()
        return STEPS * BATCH

    return run


def diffusers_loop() -> Run:
    """diffusers' documented loop around the same CNN: its scheduler adds the noise."""
    from diffusers import DDPMScheduler

    torch.manual_seed(0)
    network = CNN()
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-4)
    scheduler = DDPMScheduler(2000, trained_betas=[0.001] * 2000)
    batches = mnist_loader()

    def run() -> int:
        for x in itertools.islice(batches, STEPS):
            noise = torch.randn_like(x)
            t = torch.randint(0, 2000, (len(x),))
            z = scheduler.add_noise(x, noise, t)
            loss = nn.functional.mse_loss(network(z, (t + 1) / 2000), noise)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loss.item()
        return STEPS * BATCH

    return run


def smalldiffusion_loop() -> Run:
    """smalldiffusion's training loop around the same CNN, which is told log σ as its time."""
    from smalldiffusion import ModelMixin, Schedule, training_loop
    from smalldiffusion.diffusion import sigmas_from_betas

    class Model(CNN, ModelMixin):
        def forward(self, x, sigma, cond=None):
            return super().forward(x / (1 + sigma**2).sqrt(), sigma.flatten().log() / 4)

    class Loader(list):
        def __iter__(self):
            return mnist_loader()

    torch.manual_seed(0)
    schedule = Schedule(sigmas_from_betas(torch.full((2000,), 0.001)))
    loop = training_loop(Loader([None]), Model(), schedule, epochs=1, lr=2e-4)

    def run() -> int:
        for _ in itertools.islice(loop, STEPS):
            pass
        return STEPS * BATCH

    return run


def our_loop(precision: str = "float32", form: str | None = None, allocator: bool = True) -> Run:
    """`ddpm_utils.training.train`, as notebook 02 calls it; parts of it can be switched off.

    Args:
        precision: "float32" or "bfloat16".
        form: of the 7×7 convolutions, "direct" or "spectral"; None for the one that is chosen on this machine.
        allocator: whether freed memory is kept.

    Raises:
        RuntimeError: if the processor does not multiply bfloat16, which was asked for.
    """
    if precision == "bfloat16":
        require_bfloat16()
    torch.manual_seed(0)
    if allocator:
        keep_freed_memory()
    network = with_spectral_convolutions(CNN())
    use_convolution(network, form or convolution())
    digits = data.load("mnist")
    steps = train(
        training_run.Run(network),
        NoisePrediction(constant(beta=0.001, T=2000)),
        digits.train.images,
        digits.validation.images[:BATCH],
        epochs=1000,
        batch_size=BATCH,
        accelerator=Accelerator(mixed_precision="bf16" if precision == "bfloat16" else "no"),
    )

    def run() -> int:
        for _ in itertools.islice(steps, STEPS):
            pass
        return STEPS * BATCH

    return run
