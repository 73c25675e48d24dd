"""Notebooks executed in bulk: grids, jobs, engines, tables, and the static site."""

import sys

_GRAMMAR = "rfc3987_syntax"  # of URLs beyond ASCII: jsonschema, which nbformat uses, takes seconds to prepare it
if _GRAMMAR not in sys.modules:
    sys.modules[_GRAMMAR] = None  # type: ignore[assignment]  # while nbformat is imported: no notebook needs it
    try:
        import nbformat as nbformat
    finally:
        del sys.modules[_GRAMMAR]
