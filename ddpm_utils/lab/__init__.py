"""The laboratory: pictures that change in place, what they show, and the controls of their panels."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
