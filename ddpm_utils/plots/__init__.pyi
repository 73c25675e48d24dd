from . import cold as cold
from . import curves as curves
from . import explanations as explanations
from .images import image_table as image_table
from .images import metric_gallery as metric_gallery
from .images import mosaics as mosaics
from .images import show_figure as show_figure
