"""Inputs whose sizes vary: their ranges, the sizes that are compared, and what a trace froze."""
