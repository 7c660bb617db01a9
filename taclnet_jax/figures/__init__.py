"""Pictures of sections, attention and training, for files and TensorBoard.

Membrane is dark in every picture, as it is in the microscope. Every pixel of a section that is
not scaled down is a square of whole screen pixels. The colours can be told apart with any form
of colour vision. Nothing here touches pyplot's global state, and a file is written whole or not
at all.
"""

from taclnet_jax.figures.curves import draw_curves as draw_curves
from taclnet_jax.figures.curves import training_curves as training_curves
from taclnet_jax.figures.panels import Panel as Panel
from taclnet_jax.figures.panels import as_bytes as as_bytes
from taclnet_jax.figures.panels import coloured as coloured
from taclnet_jax.figures.panels import figure_of as figure_of
from taclnet_jax.figures.panels import grid as grid
from taclnet_jax.figures.panels import rendered as rendered
from taclnet_jax.figures.panels import stretched as stretched
from taclnet_jax.figures.panels import write_png as write_png
from taclnet_jax.figures.sections import attention_panels as attention_panels
from taclnet_jax.figures.sections import prediction_panels as prediction_panels
from taclnet_jax.figures.sections import section_comparison as section_comparison
