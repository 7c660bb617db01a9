"""TACLNet on ISBI13 (SNEMI3D): 100 sections of 1024x1024 of mouse cortex, 30 x 6 x 6 nm.

    python -m taclnet_jax.main --config=configs/isbi13.py --workdir=runs/isbi13_taclnet

Fold 3 trains on sections 0-65 and scores 66-99. With 309 steps an epoch it wants an accelerator;
it has not been trained to the end yet, so there is no score to expect.
"""

from taclnet_jax.config import get_config as default_config


def get_config():
    config = default_config()
    config.dataset = 'isbi13'
    config.phase_one.epochs = 20
    config.phase_one.learning_rate = 3e-3
    config.phase_one.schedule = 'cosine'
    config.phase_two.epochs = 4
    config.phase_two.learning_rate = 2e-4
    config.evaluate.threshold_from = 'training'
    return config
