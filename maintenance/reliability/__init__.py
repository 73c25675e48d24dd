"""Fault injection, mutation testing and long runs. It imports nothing: `trial` tests other copies of the package."""
