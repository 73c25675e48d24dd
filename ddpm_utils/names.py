"""Names that users write: other spellings of a name are understood, and names that are nearly right are suggested."""

import re
from collections.abc import Iterable
from difflib import get_close_matches


def canonical(name: str, allowed: Iterable[str]) -> str | None:
    """Return the allowed name that differs from a name at most in case, and in spaces, "-" and "_" within it; or None.

    Args:
        name: as the user wrote it, such as "Fashion-MNIST".
        allowed: the names that exist, such as "fashion_mnist".
    """
    allowed = list(allowed)
    return name if name in allowed else {_folded(known): known for known in allowed}.get(_folded(name))


def suggestion(name: str, allowed: Iterable[str]) -> str:
    """Return " Did you mean 'cosine'?", which a sentence about an unknown name ends with; "" if no name is close."""
    names = {_folded(known): known for known in allowed}
    close = get_close_matches(_folded(name), names, n=1)
    return f" Did you mean {names[close[0]]!r}?" if close else ""


def choose(parameter: str, name: str, allowed: Iterable[str]) -> str:
    """Return what a parameter's name stands for, see `canonical`.

    Raises:
        ValueError: if it is none of the allowed names.
    """
    allowed = list(allowed)
    known = canonical(name, allowed) if isinstance(name, str) else None
    if known is None:
        near = suggestion(name, allowed) if isinstance(name, str) else ""
        raise ValueError(f"{parameter} must be one of {', '.join(allowed)}, not {name!r}.{near}")
    return known


def _folded(name: str) -> str:
    """A name without what `canonical` disregards."""
    return re.sub(r"(?<=[^\W_])[\s_-]+(?=[^\W_])", "", name.strip()).casefold()
