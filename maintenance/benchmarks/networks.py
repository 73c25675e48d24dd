"""Networks, ours and of other libraries: their training steps and calls on a fixed batch."""

import torch
from torch import Tensor, nn

from ddpm_utils.networks.cnn import CNN
from ddpm_utils.networks.cpu import keep_freed_memory
from ddpm_utils.networks.spectral import use_convolution
from ddpm_utils.training.experiments import Experiment
from maintenance.benchmarks.race import Run
from maintenance.report import bfloat16_is_fast

BATCH = 128
STEPS = 8  # training steps per run
CALLS = 10  # network calls per run


def require_bfloat16() -> None:
    """Refuse to run where bfloat16 would only be emulated."""
    if not bfloat16_is_fast():
        raise RuntimeError("this processor does not multiply bfloat16.")


def make(network: str) -> nn.Module:
    """A network by its name in `NETWORKS`."""
    torch.manual_seed(0)
    return NETWORKS[network]()


def diffusers_unet() -> nn.Module:
    """diffusers' UNet2DModel, about as many parameters as the lean U-Net."""
    from diffusers import UNet2DModel

    return UNet2DModel(
        sample_size=28,
        in_channels=1,
        out_channels=1,
        block_out_channels=(16, 32, 56),
        down_block_types=("DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        norm_num_groups=8,
    )


def lucidrains_unet() -> nn.Module:
    """denoising-diffusion-pytorch's Unet, about as many parameters as the lean U-Net."""
    from denoising_diffusion_pytorch import Unet

    return Unet(dim=14, dim_mults=(1, 2, 4), channels=1)


NETWORKS = {
    "UNet2DModel (diffusers)": diffusers_unet,
    "Unet (denoising-diffusion-pytorch)": lucidrains_unet,
    "lean_unet": Experiment(network="lean_unet").make_network,
    "unet": Experiment(network="unet").make_network,
    "cnn": Experiment(network="cnn").make_network,
}


def answer(network: nn.Module, z: Tensor, time: Tensor) -> Tensor:
    """The estimate as a tensor, whatever the library."""
    estimate = network(z, time)
    return estimate if isinstance(estimate, Tensor) else estimate.sample


def network_step(network: str) -> Run:
    """Forward, backward and Adam of any network on a fixed batch."""
    keep_freed_memory()
    model = make(network)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-4, fused=True)
    z, time = torch.randn(BATCH, 1, 28, 28), torch.rand(BATCH)

    def run() -> int:
        for _ in range(STEPS):
            loss = (answer(model, z, time) - z).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return STEPS * BATCH

    return run


def plain_calls(compiled: bool = False) -> Run:
    """The report's CNN as a user of PyTorch would write it."""
    network = torch.compile(CNN().eval()) if compiled else CNN().eval()
    return repeat_calls(network)


def network_calls(network: str, precision: str = "float32", form: str | None = None) -> Run:
    """A network by its name in `NETWORKS`, freed memory kept and weights frozen, as in samplers.

    Args:
        precision: "float32" or "bfloat16".
        form: of our 7×7 convolutions, "direct" or "spectral"; None for the one that is chosen on this machine.

    Raises:
        RuntimeError: if the processor does not multiply bfloat16, which was asked for.
    """
    if precision == "bfloat16":
        require_bfloat16()
    keep_freed_memory()
    model = make(network).eval().requires_grad_(False)
    if form:
        use_convolution(model, form)
    return repeat_calls(model, precision == "bfloat16")


def repeat_calls(network: nn.Module, bfloat16: bool = False) -> Run:
    """Calls without gradients."""
    z, time = torch.randn(BATCH, 1, 28, 28), torch.rand(BATCH)

    @torch.inference_mode()
    def run() -> int:
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            for _ in range(CALLS):
                answer(network, z, time)
        return CALLS * BATCH

    return run
