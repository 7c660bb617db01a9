"""TACLNet in JAX: topological attention for segmenting electron-microscopy volumes.

The names below are the library for other people's models, and `load` for those that were trained
here. They are imported on first use, so that the command line's --help need not wait for JAX; all
but `load` bring neither training nor data with them.
"""

import lazy_loader

__version__ = '0.1.0'

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)  # as __init__.pyi says
