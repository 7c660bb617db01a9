"""Measurements, the commands behind the documentation's numbers."""

from taclnet_jax.commandline import allow_callbacks

allow_callbacks()
