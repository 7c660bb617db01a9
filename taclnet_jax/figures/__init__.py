"""Pictures of sections, attention and training, for files and TensorBoard.

Membrane is dark in every picture, as it is in the microscope. Every pixel of a section that is
not scaled down is a square of whole screen pixels. The colours can be told apart with any form
of colour vision. Nothing here touches pyplot's global state, and a file is written whole or not
at all.
"""

from taclnet_jax.figures.curves import draw_curves, training_curves
from taclnet_jax.figures.panels import (
    Panel,
    as_bytes,
    coloured,
    figure_of,
    grid,
    rendered,
    stretched,
    write_png,
)
from taclnet_jax.figures.sections import attention_panels, section_comparison

__all__ = [
    'Panel',
    'as_bytes',
    'attention_panels',
    'coloured',
    'draw_curves',
    'figure_of',
    'grid',
    'rendered',
    'section_comparison',
    'stretched',
    'training_curves',
    'write_png',
]
