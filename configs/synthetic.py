"""TACLNet on the built-in synthetic volume: the quick look, nothing to download.

    python -m taclnet_jax.main --config=configs/synthetic.py --workdir=runs/synthetic

Trains on 14 of 24 made-up sections of 256x256 and scores the last 8. It is meant to show the
whole way in a few minutes, not to reach the best scores: SYNTHETIC_COST
"""

from taclnet_jax.config import get_config as default_config


def get_config():
    config = default_config()
    config.dataset = 'synthetic'
    config.crop = (96, 96)
    config.batch_size = 8
    config.phase_one.epochs = 8
    config.phase_one.learning_rate = 4e-3
    config.phase_one.schedule = 'cosine'
    config.phase_two.epochs = 3
    config.phase_two.learning_rate = 1e-4
    return config
