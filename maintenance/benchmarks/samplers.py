"""Sampler loops around the same CNN, ours and diffusers'; each run is one trajectory."""

from collections.abc import Callable
from functools import partial

import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler

from ddpm_utils import randomness
from ddpm_utils.diffusion import samplers, solvers
from ddpm_utils.networks.cpu import keep_freed_memory
from ddpm_utils.training.experiments import Experiment
from maintenance.benchmarks.race import Run

CALLS = 20
SAMPLERS = ("ancestral", "ddim", "dpm")


def sampler_loops(batch: int) -> dict[str, Run]:
    """What a sampler does from z_T: "calls", its network calls only; and each sampler, "…, ours" and "…, diffusers".

    Args:
        batch: images.
    """
    keep_freed_memory()
    experiment = Experiment()
    network, schedule = experiment.make_network().eval(), experiment.noise_schedule
    z = torch.randn(batch, 1, 28, 28)
    options = {"trained_betas": schedule.beta[1:].tolist(), "timestep_spacing": "trailing"}

    def calls() -> None:
        short = schedule.subset(CALLS)
        for t in range(CALLS, 0, -1):
            samplers.estimate(network, z, short.time[t])

    def ours(sampler: Callable) -> None:
        for _ in sampler(network, schedule.subset(CALLS), z, randomness.Noise(range(batch))):
            pass

    def theirs(scheduler) -> None:
        scheduler.set_timesteps(CALLS)
        latents = z
        for t in scheduler.timesteps:
            noise = network(latents, ((t + 1) / schedule.T).expand(batch))
            latents = scheduler.step(noise, t, latents).prev_sample

    def run(loop: Callable[[], None]) -> int:
        with torch.inference_mode():
            loop()
        return CALLS

    loops = {
        "calls": calls,
        "ancestral, ours": partial(ours, samplers.ancestral),
        "ancestral, diffusers": partial(theirs, DDPMScheduler(schedule.T, clip_sample=False, **options)),
        "ddim, ours": partial(ours, samplers.ddim),
        "ddim, diffusers": partial(theirs, DDIMScheduler(schedule.T, clip_sample=False, **options)),
        "dpm, ours": partial(ours, solvers.dpm_solver_2m),
        "dpm, diffusers": partial(theirs, DPMSolverMultistepScheduler(schedule.T, **options)),
    }
    return {name: partial(run, loop) for name, loop in loops.items()}
