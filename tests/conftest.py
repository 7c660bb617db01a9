"""Settings that have to stand before JAX starts."""

from __future__ import annotations

import os

# The tests' own devices and machines of one core: callbacks could hang with fewer workers.
os.environ.setdefault('NPROC', '16')
os.environ.setdefault('JAX_PLATFORMS', 'cpu')
