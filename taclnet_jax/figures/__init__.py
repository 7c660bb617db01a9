"""Pictures of sections, attention and training, for files and TensorBoard.

Membrane is dark in every picture, as it is in the microscope. Every pixel of a section that is
not scaled down is a square of whole screen pixels. The colours can be told apart with any form
of colour vision. Nothing here touches pyplot's global state, and a file is written whole or not
at all.
"""

from taclnet_jax.figures.curves import training_curves
from taclnet_jax.figures.panels import rendered, write_png
from taclnet_jax.figures.sections import attention_panels, section_comparison

__all__ = [
    'attention_panels',
    'rendered',
    'section_comparison',
    'training_curves',
    'write_png',
]
