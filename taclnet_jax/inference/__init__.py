"""What a trained network says of sections, and how it becomes segments."""

from taclnet_jax.inference.cut import MAPS, TITLES, Cut
from taclnet_jax.inference.model import Model, load
from taclnet_jax.inference.predict import predict_stack
from taclnet_jax.inference.sections import (
    Inference,
    SectionPrediction,
    create_inference,
    predict_sections,
)

__all__ = [
    'MAPS',
    'TITLES',
    'Cut',
    'Inference',
    'Model',
    'SectionPrediction',
    'create_inference',
    'load',
    'predict_sections',
    'predict_stack',
]
