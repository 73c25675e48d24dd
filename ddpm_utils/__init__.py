"""Diffusion models on a laptop: schedules, samplers, networks and figures, for notebooks that need no GPU.

`import ddpm_utils as ddpm` offers a short vocabulary, whose names load when they are first used. The folders
`data`, `diffusion`, `cold`, `training`, `networks`, `evaluation`, `plots`, `lab`, `batch` and `system` hold the rest;
`__init__.pyi` says what is where.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
