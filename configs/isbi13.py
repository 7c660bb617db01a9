"""The flagship on ISBI13 (SNEMI3D): 100 sections of 1024x1024 of mouse cortex, 30 x 6 x 6 nm.

    python -m taclnet_jax.main --config=configs/isbi13.py --workdir=runs/isbi13

A run takes two hours of one CPU core. The network sees 12 nm pixels. Fold 3 trains on sections
0-62, chooses checkpoint and threshold on 63-65 and scores 66-99.
"""

from taclnet_jax.config import flagship_config


def get_config():
    config = flagship_config()
    config.dataset = 'isbi13'
    config.downsample = 2
    # Zeros wider than discs of this radius are tissue nobody labelled (full resolution).
    config.unlabelled_beyond_px = 8
    # 68 steps an epoch.
    config.crops_limit = 272
    config.phase_one.epochs = 38
    config.phase_two.epochs = 4
    return config
