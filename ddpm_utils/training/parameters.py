"""The parameters of experiments: what they may be, as pydantic checks it, and sentences that say what is wrong."""

import dataclasses
import importlib
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache, partial, wraps
from typing import Annotated, Any, TypeVar, dataclass_transform

import pydantic.dataclasses
import torch
from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, ValidationError, WrapValidator
from torch import nn

from ddpm_utils import data
from ddpm_utils.diffusion.betas import advice, read_betas
from ddpm_utils.names import canonical, choose, suggestion
from ddpm_utils.networks.cnn import CNN
from ddpm_utils.networks.unets import LeanUNet, UNet
from ddpm_utils.scalars import plain, whole

Class = TypeVar("Class")
Info = Any
"""pydantic's ValidationInfo, a protocol of which no value can be checked: field_name, and data, the fields before it
that are right."""
NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "cnn": CNN,
    "cnn_plane_norm": partial(CNN, norm="plane"),
    "cnn_no_norm": partial(CNN, norm="none"),
    "lean_unet": LeanUNet,
    "unet": UNet,
}
"""The decoders by name: what the notebooks' `network` parameter may be, beside networks of the user's own."""
OWN_NETWORK = re.compile(r"(?!.{101})[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")
"""The name of a network of the user's own, such as "my_module:MyNetwork"; it names folders, too."""
ALLOWED = {
    "string_type": "text",
    "string_unicode": "text",
    "int_type": "an integer",
    "float_type": "a number",
    "greater_than_equal": "at least {ge}",
    "less_than": "less than {lt}",
}
"""What a value must be, by the type of pydantic's error."""


class ParameterError(ValueError):
    """Raise this for parameters that are not allowed.

    Args:
        problems: (parameter, sentence) of each problem, in order; the parameter is None if several are concerned.
    """

    def __init__(self, problems: Iterable[tuple[str | None, str]]):
        self.problems = tuple(dict.fromkeys(problems))
        super().__init__(self.problems)

    def __str__(self) -> str:
        return " ".join(sentence for _, sentence in self.problems)


@contextmanager
def concerning_several() -> Iterator[None]:
    """Make a ValueError a problem that concerns several parameters.

    Raises:
        ParameterError: in place of a ValueError.
    """
    try:
        yield
    except ValueError as error:
        raise ParameterError([(None, str(error))]) from error


@dataclass_transform(frozen_default=True)
def checked(cls: type[Class]) -> type[Class]:
    """Make a class a frozen dataclass whose values pydantic checks, those by default, too.

    A value is of its field's type already: a bool is no integer, and an integer is a number. Its validators raise a
    ValueError with a whole sentence. All that is wrong is raised as one `ParameterError`.
    """
    config = ConfigDict(strict=True, extra="forbid", validate_default=True)
    made: Any = pydantic.dataclasses.dataclass(frozen=True, config=config)(cls)
    validate = made.__init__

    @wraps(validate)
    def init(self, *args, **kwargs):
        try:
            validate(self, *args, **kwargs)
        except ValidationError as error:
            names = [field.name for field in dataclasses.fields(made)]
            raise ParameterError(problem for found in error.errors() for problem in _problems(found, names)) from None

    made.__init__ = init
    return made


def _problems(found: Mapping[str, Any], names: Sequence[str]) -> Iterable[tuple[str | None, str]]:
    """What one of pydantic's errors says, as problems of a class with fields of these names."""
    name, kind, context = found["loc"][0], found["type"], found.get("ctx", {})
    if kind == "unexpected_positional_argument":
        return [(None, f"there are {len(names)} parameters, {', '.join(names)}; more were given.")]
    name = names[name] if isinstance(name, int) else name  # of one that is given by its place
    if kind == "unexpected_keyword_argument":
        return [(name, f"there is no parameter {name!r}; there are {', '.join(names)}.{suggestion(name, names)}")]
    if kind == "value_error":
        reason = context["error"]
        return reason.problems if isinstance(reason, ParameterError) else [(name, str(reason))]
    if kind in ALLOWED:
        sentence = f"{name} must be {ALLOWED[kind].format(**context)}, not {found['input']!r}."
        return [(name, sentence + advice(name, found["input"]))]
    return [(None, f"{found['msg']}.")]


def must(be_right: Callable[[Any], object], words: str) -> AfterValidator:
    """A constraint on a field.

    Args:
        be_right: whether a value is allowed.
        words: the sentence after the field's name, such as "must be 1 or 2".
    """

    def check(value: Any, info: Info) -> Any:
        if not be_right(value):
            raise ValueError(f"{info.field_name} {words}, not {value!r}.")
        return value

    return AfterValidator(check)


def one_of(allowed: Iterable[str]) -> AfterValidator:
    """A constraint on a field: one of some names, as they are when it is checked, in any spelling of `canonical`."""
    return AfterValidator(lambda value, info: choose(info.field_name, value, allowed))


def _as_given(value: Any, validate: Callable[[Any], Any]) -> Any:
    """Check a number, and leave an integer one."""
    value = plain(value)
    validate(value)
    return value


def find_network(name: str) -> Callable[[], nn.Module]:
    """Find what makes a network. A network of the user's own is imported, and tried out with two images.

    Args:
        name: one of `NETWORKS`; or module:class for a network of your own. Python imports the module from the current
            folder or from its path, and calls the class (or function) without arguments. The result is an nn.Module
            g(z, t/T): z has the shape (n, 1, 28, 28), t/T has the shape (n,) and lies in (0, 1], and the estimate
            has the shape of z. Weights that are trained with it are for this name alone.

    Raises:
        ValueError: if there is no such network, or it does not do that.
    """
    if known := canonical(name, NETWORKS):
        return NETWORKS[known]
    if not OWN_NETWORK.fullmatch(name):
        allowed = f"{', '.join(NETWORKS)}, or module:class for a network of your own"
        raise ValueError(f"network must be one of {allowed}, not {name!r}.{suggestion(name, NETWORKS)}")
    module, _, attribute = name.partition(":")
    if module not in sys.modules:
        importlib.invalidate_caches()  # the file may be a moment old
    try:
        build = getattr(importlib.import_module(module), attribute)
    except Exception as error:  # whatever the module raises
        raise _unusable(name, "name a class of a module that can be imported", error) from error
    _try_out(build, name)
    return build


@cache
def _try_out(build: Callable[[], nn.Module], name: str) -> None:
    """Call a network of the user's own once, without touching torch's global generator."""
    shape = (2, 1, 28, 28)
    what = "return an nn.Module when it is called without arguments"
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            network = build()
            if not isinstance(network, nn.Module):
                raise TypeError(f"it returned {type(network).__name__}")
            what = "map z of shape (n, 1, 28, 28) and t/T of shape (n,) to the shape of z"
            found = tuple(network.eval()(torch.zeros(shape), torch.tensor([0.5, 1.0])).shape)
            if found != shape:
                raise ValueError(f"{shape} gave {found}")
    except Exception as error:  # whatever the network raises
        raise _unusable(name, what, error) from error


def _unusable(name: str, what: str, error: Exception) -> ValueError:
    """The sentence on a network of the user's own."""
    reason = str(error).strip().partition("\n")[0]
    return ValueError(f"network must {what}, not {name!r} ({type(error).__name__}: {reason}).")


def _check_network(name: str) -> str:
    find_network(name)
    return canonical(name, NETWORKS) or name


RUN_NAME = re.compile(r"(\w[\w.-]{,99})?", re.ASCII)
RUN_NAME_WORDS = "may hold at most 100 letters, digits, '-', '_' and '.', and begin with a letter or digit"

Number = Annotated[float, WrapValidator(_as_given)]
Integer = Annotated[int, BeforeValidator(whole)]
Count = Annotated[Integer, Field(ge=1)]
Seed = Annotated[Integer, Field(ge=0, lt=2**63)]
Betas = Annotated[tuple[float, ...], BeforeValidator(read_betas)]
LearningRate = Annotated[Number, must(lambda value: 0 < value < 1, "must lie strictly between 0 and 1")]
RunName = Annotated[str, must(RUN_NAME.fullmatch, RUN_NAME_WORDS)]
Network = Annotated[str, AfterValidator(_check_network)]
DatasetName = Annotated[str, AfterValidator(data.resolve)]
"""One of `data.DATASETS`, or a folder of images; its absolute path is kept."""
