"""A look at predictions and neurons: Neuroglancer in a browser."""

from taclnet_jax.viewing.layers import open_look as open_look
from taclnet_jax.viewing.server import serving as serving
