from .batch.parameters import check_names as check_names
from .batch.parameters import check_parameters as check_parameters
from .data.datasets import load as load
from .diffusion.forward import diffuse as diffuse
from .diffusion.forward import diffuse_step as diffuse_step
from .diffusion.forward import posterior as posterior
from .diffusion.samplers import ancestral as ancestral
from .diffusion.samplers import ddim as ddim
from .diffusion.samplers import sample as sample
from .diffusion.samplers import sample_trajectory as sample_trajectory
from .diffusion.schedules import NoiseSchedule as NoiseSchedule
from .diffusion.schedules import constant as constant
from .diffusion.schedules import cosine as cosine
from .diffusion.schedules import from_betas as from_betas
from .diffusion.schedules import linear as linear
from .diffusion.solvers import dpm_solver_2m as dpm_solver_2m
from .diffusion.solvers import heun as heun
from .plots.images import show as show
from .randomness import generator_for as generator_for
from .training.experiments import Experiment as Experiment
from .training.restorations import RestorationExperiment as RestorationExperiment

__version__: str
