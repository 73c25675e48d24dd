"""The mathematics of part 1: schedules, forward process, samplers, and decoders that are known exactly."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
