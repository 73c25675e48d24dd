"""Decoders: the report's CNN, U-Nets, and what makes them fast on a CPU."""
