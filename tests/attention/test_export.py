"""An exported STA runs in a process that does not have this package."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from commands import environment
from jax import export

from taclnet_jax.attention.sta import sta_attention

LOADER = """
import sys
sys.modules['taclnet_jax'] = sys.modules['gudhi'] = None  # importing either fails
import numpy as np
from jax import export
with open('sta.jax', 'rb') as file:
    sta = export.deserialize(file.read())
refined, attention = sta.call(np.load('prob.npy'))
np.savez('result.npz', refined=refined, attention=attention)
"""


pytest.importorskip('flatbuffers', reason='jax.export serializes through flatbuffers')


def test_exported_attention_runs_without_the_package(tmp_path: Path) -> None:
    def infer(prob: jax.Array) -> tuple[jax.Array, jax.Array]:
        result = sta_attention(prob, backend='xla')
        return result.refined, result.attention

    (batch,) = export.symbolic_shape('batch')
    shape = jax.ShapeDtypeStruct((batch, 3, 24, 26), jnp.float32)
    exported = export.export(jax.jit(infer), platforms=('cpu', 'cuda'))(shape)
    (tmp_path / 'sta.jax').write_bytes(exported.serialize())
    prob = np.random.default_rng(0).random((2, 3, 24, 26)).astype(np.float32)
    np.save(tmp_path / 'prob.npy', prob)
    subprocess.run([sys.executable, '-c', LOADER], cwd=tmp_path, env=environment(), check=True)
    expected = jax.jit(infer)(prob)
    with np.load(tmp_path / 'result.npz') as found:
        np.testing.assert_allclose(found['refined'], expected[0], atol=1e-6)
        np.testing.assert_allclose(found['attention'], expected[1], atol=1e-5)
