"""TACLNet on ISBI12: 30 sections of 512x512 of Drosophila nerve cord, 50 x 4 x 4 nm.

    python -m taclnet_jax.main --config=configs/isbi12.py --workdir=runs/isbi12_taclnet

The network sees 8 nm pixels. Fold 3 trains on sections 0-16, chooses checkpoint and threshold on
17-19 and scores 20-29. The compared systems are differences from this configuration, in
reproduction/systems.py; `python -m reproduction --table=1 --dataset=isbi12` runs them.
"""

from taclnet_jax.config import get_config as default_config


def get_config():
    config = default_config()
    config.dataset = 'isbi12'
    config.downsample = 2
    config.crop = (128, 128)
    config.batch_size = 4
    # Chosen by evidence (docs/findings.md, Screening): a recurrent U-Net that sees its prediction
    # of the window before, attended to when it is used. A run takes two hours of one core.
    config.model.name = 'recurrent_unet'
    config.model.features = (16, 32, 64, 96, 128)
    config.model.normalise = True
    config.model.iterations = 2
    config.attention.kind = 'none'
    config.augment.elastic = 0.5
    config.optimizer.name = 'adamw'
    config.optimizer.weight_decay = 1e-4
    # 17 steps an epoch.
    config.phase_one.epochs = 150
    config.phase_one.learning_rate = 3e-3
    config.phase_one.schedule = 'cosine'
    config.phase_two.epochs = 15
    config.phase_two.learning_rate = 3e-4
    config.checkpoint.every_epochs = 5
    config.evaluate.every_epochs = 5
    config.evaluate.threshold_from = 'validation'
    config.evaluate.views = 8
    return config
