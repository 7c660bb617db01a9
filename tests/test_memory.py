"""Freed memory goes back to the system."""

import platform

import pytest

from benchmarks import resident
from taclnet_jax import memory


@pytest.mark.skipif(platform.libc_ver()[0] != 'glibc', reason='glibc keeps what was freed')
def test_freed_memory_goes_back() -> None:
    size, count = 1 << 16, 2048  # too small for glibc to map each by itself
    blocks = [b'x' * size for _ in range(count)]
    last = b'x' * size  # above them, so that the heap cannot shrink by itself
    blocks.clear()
    kept = resident.now()
    memory.give_back()
    assert resident.now() < kept - size * count / 2**20 / 2
    assert len(last) == size
