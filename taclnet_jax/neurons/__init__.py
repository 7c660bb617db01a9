"""Neurons in 3-d: the segments of single sections, joined through the stack."""

from taclnet_jax.neurons.agglomeration import THRESHOLD as THRESHOLD
from taclnet_jax.neurons.agglomeration import agglomerate as agglomerate
from taclnet_jax.neurons.doubtful import Place as Place
from taclnet_jax.neurons.doubtful import doubtful_places as doubtful_places
from taclnet_jax.neurons.graph import REACH as REACH
from taclnet_jax.neurons.graph import RegionGraph as RegionGraph
from taclnet_jax.neurons.graph import region_graph as region_graph
from taclnet_jax.neurons.joining import joined as joined
