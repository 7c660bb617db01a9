"""Sections that were slow to read are kept."""

import threading
from functools import partial

import numpy as np
from cachetools import LRUCache, cached
from cachetools.keys import hashkey

from taclnet_jax.volumes import LazySections, Sections
from taclnet_jax.volumes.sections import alike


class SectionCache:
    """Keeps whole sections that were slow to read, so many megabytes of those used last."""

    def __init__(self, megabytes: float) -> None:
        self._sections: LRUCache = LRUCache(megabytes * 1e6, getsizeof=lambda array: array.nbytes)
        self._lock = threading.Lock()

    def of(self, sections: Sections) -> LazySections:
        """The same stack, read a whole section at a time and kept; who reads gets a copy."""

        @cached(self._sections, key=partial(hashkey, object()), lock=self._lock)
        def section(z: int) -> np.ndarray:
            return sections[z]

        return alike(sections, sections.dtype, lambda z, *crop: section(z)[crop])
