"""Data sets: where they are found, folders of images, and what functions ask of the images they are given."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
