"""The laboratory for denoising diffusion on a laptop.

Data flows one way: data → schedules → forward → networks → training → checkpoints → sampling → metrics →
plots → notebooks. Import the module you need: `from ddpm_utils import schedules, forward`.
"""

__version__ = "0.1.0"
