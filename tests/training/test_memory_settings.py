"""Less memory for a step: microbatches, and rematerialisation."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from commands import small_settings

from taclnet_jax.errors import Interrupted
from taclnet_jax.models import Network, create_model
from taclnet_jax.training.loop import train
from taclnet_jax.training.reporting import Reporter
from taclnet_jax.training.setup import prepare
from taclnet_jax.training.step import accumulated


def test_microbatches_give_the_mean_of_their_gradients() -> None:
    def objective(params: Any, variables: Any, batch: Any, *, beta: jax.Array) -> tuple[Any, Any]:
        prob = jnp.tanh(params['w'] * batch['x']) + beta
        seen = {'batch_stats': 2 * variables['batch_stats'] + batch['x'].sum()}
        return jnp.mean(prob**2), (prob, None, seen)

    params, x, beta = {'w': jnp.float32(0.5)}, jnp.arange(6.0), jnp.arange(6.0) % 2
    variables = {'params': params, 'batch_stats': jnp.float32(1)}
    gradient_fn = jax.value_and_grad(objective, has_aux=True)
    (loss, aux), gradient = jax.jit(accumulated(gradient_fn, 3))(
        params, variables, {'x': x}, beta=beta
    )
    parts = [
        gradient_fn(params, variables, {'x': x[i : i + 2]}, beta=beta[i : i + 2]) for i in (0, 2, 4)
    ]
    np.testing.assert_allclose(loss, np.mean([value[0] for value, _ in parts]), rtol=1e-6)
    np.testing.assert_allclose(gradient['w'], np.mean([g['w'] for _, g in parts]), rtol=1e-6)
    prob, attention, statistics = aux
    np.testing.assert_allclose(prob, np.tanh(0.5 * x) + beta, rtol=1e-6)
    assert attention is None
    assert statistics['batch_stats'] == 2 * (2 * (2 + 1) + 5) + 9


NETWORKS = {
    'convlstm': {'model.name': 'convlstm', 'model.hidden': (4,)},
    'recurrent_unet': {
        'model.name': 'recurrent_unet',
        'model.features': (4, 6),
        'model.normalise': True,
        'model.iterations': 2,
    },
}


@pytest.mark.slow
@pytest.mark.parametrize('name', NETWORKS)
def test_rematerialisation_keeps_less_and_changes_nothing(name: str) -> None:
    image = jax.random.normal(jax.random.key(0), (2, 3, 16, 16))

    def gradient_and_kept(network: Network) -> tuple[Any, int]:
        variables = network.init(jax.random.key(1), image)

        def loss(params: Any) -> jax.Array:
            logits, _ = network.apply(
                {**variables, 'params': params},
                image,
                True,
                method='iterations',
                mutable=['batch_stats'],
            )
            return jnp.mean(jnp.square(logits))

        # What a function's derivative keeps is in its leaves.
        kept = jax.eval_shape(lambda p: jax.vjp(loss, p)[1], variables['params'])
        nbytes = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(kept))
        return jax.jit(jax.grad(loss))(variables['params']), nbytes

    (plain, all_kept), (same, kept) = (
        gradient_and_kept(
            create_model(
                small_settings(**NETWORKS[name], **{'model.rematerialise': remat}).model, 'float32'
            )
        )
        for remat in (False, True)
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), plain, same)
    assert kept < all_kept / 2


@pytest.mark.slow
@pytest.mark.usefixtures('compiled_once')
def test_a_run_with_both_goes_on_with_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = small_settings(
        microbatches=2, model__rematerialise=True, attention__backend='xla', phase_two__epochs=1
    )
    whole = train(prepare(settings), tmp_path / 'whole')
    show, steps = Reporter.step, iter(range(1, 7))

    def stop_at_five(*args: Any) -> None:
        show(*args)
        if next(steps) == 5:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(Reporter, 'step', stop_at_five)
    with pytest.raises(Interrupted, match='step 5 of 6'):
        train(prepare(settings), tmp_path / 'run')
    jax.tree.map(np.testing.assert_array_equal, whole, train(prepare(settings), tmp_path / 'run'))
