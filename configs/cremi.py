"""The flagship on CREMI: 125 sections of 1250x1250 of Drosophila brain thrice, 40 x 4 x 4 nm.

    python -m taclnet_jax.main --config=configs/cremi.py --workdir=runs/cremi

Downloads samples A, B and C (about 0.6 GB) if they are not in config.data_dir. Half resolution, as
published; the sections of each sample are split into thirds, and fold 3 scores the last ones. One
sample alone is --config.cremi.samples="('A',)".
An epoch draws 1328 crops, the poster's number: 332 steps. The schedule is for an accelerator; it
has not been run to its end here.
"""

from taclnet_jax.config import flagship_config


def get_config():
    config = flagship_config()
    config.dataset = 'cremi'
    config.downsample = 2
    config.crops_limit = 1328
    config.phase_one.epochs = 40
    config.phase_two.epochs = 4
    # The last third of each of the three samples has 42 sections.
    config.evaluate.test_sections = 30
    return config
