"""TACLNet on CREMI: 125 sections of 1250x1250 of Drosophila brain a sample, 40 x 4 x 4 nm.

    python -m taclnet_jax.main --config=configs/cremi.py --workdir=runs/cremi_taclnet

The published schedule: 350 epochs of RMSprop at 1e-3, halved every 50, then 15 at 1e-5. Reading
CREMI's files is still to come: until then this command says so and stops.
"""

from taclnet_jax.config import get_config as default_config


def get_config():
    config = default_config()
    config.dataset = 'cremi'
    return config
