"""The flagship on ISBI12: 30 sections of 512x512 of Drosophila nerve cord, 50 x 4 x 4 nm.

    python -m taclnet_jax.main --config=configs/isbi12.py --workdir=runs/isbi12

A run takes two hours of one CPU core. The network sees 8 nm pixels. Fold 3 trains on sections 0-16,
chooses checkpoint and threshold on 17-19 and scores 20-29. The compared systems are differences
from this configuration, in reproduction/systems.py;
`python -m reproduction --table=1 --dataset=isbi12` runs them.
"""

from taclnet_jax.config import flagship_config


def get_config():
    config = flagship_config()
    config.dataset = 'isbi12'
    config.downsample = 2
    # 17 steps an epoch.
    config.phase_one.epochs = 150
    config.phase_two.epochs = 15
    return config
