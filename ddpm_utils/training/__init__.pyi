from .base import SNAPSHOT_EPOCHS as SNAPSHOT_EPOCHS
from .experiments import LEAN as LEAN
from .experiments import PUBLISHED as PUBLISHED
from .loop import train as train
from .objectives import validate as validate
from .objectives import validation_steps as validation_steps
from .restorations import DEGRADATIONS as DEGRADATIONS
from .run import Run as Run
