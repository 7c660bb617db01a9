"""What a trained network says of sections, and how it becomes segments."""

from taclnet_jax.inference.cut import Cut as Cut
from taclnet_jax.inference.exported import export as export
from taclnet_jax.inference.loading import load as load
from taclnet_jax.inference.model import SEGMENTED as SEGMENTED
from taclnet_jax.inference.model import Model as Model
from taclnet_jax.inference.sections import Inference as Inference
from taclnet_jax.inference.sections import SectionPrediction as SectionPrediction
from taclnet_jax.inference.sections import create_inference as create_inference
from taclnet_jax.inference.sections import predict_sections as predict_sections
