"""Notebooks executed in bulk: grids, jobs, engines, tables, and the static site."""
