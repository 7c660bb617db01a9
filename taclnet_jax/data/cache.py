"""Sections that were slow to read are kept."""

from __future__ import annotations

import threading

import numpy as np
from cachetools import LRUCache

from taclnet_jax.volumes import LazySections, Sections


class SectionCache:
    """Keeps whole sections that were slow to read, the ones used last.

    Args:
        megabytes: how much it may hold.
    """

    def __init__(self, megabytes: float) -> None:
        self._sections: LRUCache = LRUCache(megabytes * 1e6, getsizeof=lambda array: array.nbytes)
        self._lock = threading.Lock()

    def of(self, sections: Sections) -> LazySections:
        """The same stack, read a whole section at a time and kept."""

        def read(z: int, rows: slice, columns: slice) -> np.ndarray:
            key = (id(sections), z)
            with self._lock:
                section = self._sections.get(key)
            if section is None:
                section = sections[z]
                section.flags.writeable = False  # it is everybody's
                if section.nbytes <= self._sections.maxsize:
                    with self._lock:
                        self._sections[key] = section
            return section[rows, columns]

        return LazySections(sections.shape, sections.dtype, read)
