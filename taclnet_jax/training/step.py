"""One update, compiled for all devices, and what its parts take."""

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import lax

from taclnet_jax.attention import topological_attention
from taclnet_jax.config.settings import AttentionSettings
from taclnet_jax.topology import critical_map
from taclnet_jax.training import parallel
from taclnet_jax.training.objective import Arrays, Objective
from taclnet_jax.training.state import TrainState

Step = Callable[[TrainState, Arrays], tuple[TrainState, Arrays]]


def create_step(
    objective: Objective,
    optimizer: optax.GradientTransformation,
    average: float = 0.0,
    beta: float | None = None,
    microbatches: int = 1,
) -> Step:
    """One update, compiled for all devices; it donates the state.

    Where the loss or the gradient is not finite the step is skipped: parameters, statistics,
    optimizer and memory stay as they are. So does the learning rate, which counts updates.

    Args:
        objective: of `create_objective`.
        optimizer: what takes its gradient.
        average: what an update leaves of the moving average of variables, where the state has one.
        beta: weight of the epoch before in ITA; None without ITA.
        microbatches: parts of a device's batch, of which only one is in memory at a time.

    Returns:
        A function of the state and a sharded batch to the new state and, by device, 'loss', NaN if
        the step was skipped, and 'prob' `[batch, slices, height, width]`. Where the batch has
        'stop' `[batch]`, the output says whether any of it is true, on any device.
    """

    gradient_fn = accumulated(jax.value_and_grad(objective, has_aux=True), microbatches)

    def step(state: TrainState, batch: Arrays) -> tuple[TrainState, Arrays]:
        memory, ita = None, {}
        if beta is not None and state.memory is not None:
            memory = state.memory
            ita['history'], ita['beta'] = memory.read(batch['sample_id'], batch['symmetry'], beta)
        params = state.variables['params']
        (loss, (prob, attention, statistics)), gradients = gradient_fn(
            params, state.variables, batch, **ita
        )
        loss, gradients = lax.pmean((loss, gradients), parallel.AXIS)
        # The same on all devices. Of squares, as they are in the optimizer's state.
        finite = jnp.isfinite(loss) & jnp.isfinite(optax.tree.norm((gradients, statistics)))
        updates, opt_state = optimizer.update(gradients, state.opt_state, params)
        if memory is not None:
            memory = memory.write(batch['sample_id'], batch['symmetry'], attention, when=finite)
        variables = {'params': optax.apply_updates(params, updates), **statistics}
        averaged = None
        if state.average is not None:
            # At first over fewer updates, so that it forgets where it began.
            weight = 1 - jnp.minimum(average, (1 + state.step) / (10 + state.step))
            averaged = optax.incremental_update(variables, state.average, weight)
        variables, averaged, opt_state = optax.tree.where(
            finite,
            (variables, averaged, opt_state),
            (state.variables, state.average, state.opt_state),
        )
        state = TrainState(
            step=state.step + 1,
            variables=variables,
            average=averaged,
            opt_state=opt_state,
            memory=memory or state.memory,
            losses=state.losses.add(loss, finite),
        )
        output = {'loss': jnp.where(finite, loss, jnp.nan), 'prob': prob}
        if 'stop' in batch:
            output['stop'] = lax.pmax(jnp.any(batch['stop']), parallel.AXIS)
        return state, output

    return parallel.map_step(step)


def accumulated(gradient_fn: Callable[..., Any], parts: int) -> Callable[..., Any]:
    """A gradient of `Objective`, of equal parts of the batch one after the other.

    Loss and gradient are the means over the parts; each part goes on from the statistics of the one
    before.
    """
    if parts == 1:  # without the loop, in which convolutions are slow on CPUs
        return gradient_fn

    def gradient(params: Any, variables: Any, batch: Arrays, **ita: jax.Array) -> Any:
        def add(carry: Any, part: Any) -> Any:
            total, statistics = carry
            batch, ita = part
            (loss, (prob, attention, statistics)), gradients = gradient_fn(
                params, {**variables, **statistics}, batch, **ita
            )
            return (optax.tree.add(total, (loss, gradients)), statistics), (prob, attention)

        split = jax.tree.map(lambda x: x.reshape(parts, -1, *x.shape[1:]), (batch, ita))
        zeros = optax.tree.zeros_like((jnp.zeros(()), params))
        statistics = {name: x for name, x in variables.items() if name != 'params'}
        (total, statistics), outputs = lax.scan(add, (zeros, statistics), split)
        loss, gradients = optax.tree.scale(1 / parts, total)
        prob, attention = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), outputs)
        return (loss, (prob, attention, statistics)), gradients

    return gradient


def time_topology(prob: jax.Array, settings: AttentionSettings) -> dict[str, float]:
    """Milliseconds that persistence and attention take for a batch, timed on their own.

    Inside the compiled step the parts cannot be told apart. P is that of a step, `[devices, batch,
    slices, height, width]`, of devices of this process.
    """
    prob = prob.reshape(-1, *prob.shape[2:])
    options = settings.options
    alpha = options.pop('alpha')
    target = prob.shape[1] // 2

    @jax.jit
    def attend(maps: jax.Array, prob: jax.Array) -> jax.Array:
        def refined(p: jax.Array) -> jax.Array:
            return jnp.sum(alpha * topological_attention(maps[:, target], maps, p) + p)

        return jax.grad(refined)(prob[:, target])

    persist = jax.jit(lambda prob: critical_map(prob, **options))
    maps = persist(prob)
    return {
        'time/persistence_ms': _milliseconds(persist, prob),
        'time/attention_ms': _milliseconds(attend, maps, prob),
    }


def _milliseconds(function: Callable[..., jax.Array], *arguments: jax.Array) -> float:
    jax.block_until_ready(function(*arguments))
    start = time.perf_counter()
    jax.block_until_ready(function(*arguments))
    return (time.perf_counter() - start) * 1e3
