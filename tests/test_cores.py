"""The options of XLA's compiler: which, where, and that another version is no error."""

from __future__ import annotations

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from taclnet_jax import cores


@pytest.fixture(autouse=True)
def _forgotten() -> Iterator[None]:
    cores.compiler_options.cache_clear()
    yield
    cores.compiler_options.cache_clear()


def on_cores(patch: pytest.MonkeyPatch, count: int) -> None:
    patch.setattr(cores, 'available_cores', lambda: list(range(count)))


def test_convolutions_are_not_ynnpacks_and_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    on_cores(monkeypatch, 2)
    x, kernel = (
        jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)
        for shape in ((2, 40, 40, 32), (3, 3, 32, 32))
    )

    def convolve(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return jax.lax.conv_general_dilated(
            x, kernel, (1, 1), 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC')
        )

    options = cores.compiler_options()
    ours = jax.jit(convolve, compiler_options=options).lower(x, kernel).compile()
    assert not options or 'ynn_fusion' not in ours.as_text()
    np.testing.assert_allclose(ours(x, kernel), convolve(x, kernel), atol=1e-4)


def test_none_on_a_single_core(monkeypatch: pytest.MonkeyPatch) -> None:
    on_cores(monkeypatch, 1)
    assert cores.compiler_options() == {}


@pytest.mark.parametrize(
    'options', [{'xla_no_such_option': 'x'}, {'xla_cpu_experimental_ynn_fusion_type': 'NO_SUCH'}]
)
def test_none_where_xla_does_not_know_it(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, str]
) -> None:
    on_cores(monkeypatch, 2)
    monkeypatch.setattr(cores, '_YNNPACK', options)
    assert cores.compiler_options() == {}
