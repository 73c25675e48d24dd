"""Cold diffusion, part 2: degradations D(x, t, context), and the ways back from z_T."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
