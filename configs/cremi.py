"""TACLNet on CREMI: three samples of 125 sections of 1250x1250 of Drosophila brain, 40 x 4 x 4 nm.

    python -m taclnet_jax.main --config=configs/cremi.py --workdir=runs/cremi_taclnet

Downloads samples A, B and C (about 0.6 GB) if they are not in config.data_dir. Half resolution, as
published; the sections of each sample are split into thirds, and fold 3 scores the last ones. One
sample alone is --config.cremi.samples="('A',)".
An epoch draws 1328 crops of 156x156, the poster's number: 133 steps, 3 minutes of two CPU cores.
The schedule is for an accelerator; it has not been run to its end here.
"""

from taclnet_jax.config import get_config as default_config


def get_config():
    config = default_config()
    config.dataset = 'cremi'
    config.downsample = 2
    config.crops_limit = 1328
    config.optimizer.name = 'adamw'
    config.optimizer.weight_decay = 1e-4
    config.phase_one.epochs = 40
    config.phase_one.learning_rate = 3e-2  # chosen on ISBI12
    config.phase_one.schedule = 'cosine'
    config.phase_two.epochs = 10
    config.phase_two.learning_rate = 3e-3
    # Trains better than the poster's form (docs/findings.md).
    config.attention.form = 'straight_through'
    config.evaluate.threshold_from = 'validation'
    config.evaluate.views = 8
    # The last third of each of the three samples has 42 sections.
    config.evaluate.test_sections = 30
    return config
