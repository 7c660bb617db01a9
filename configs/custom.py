"""The flagship on your own volume: an image stack and its labels, in any common format.

    python -m taclnet_jax.main --config=configs/custom.py --workdir=runs/mine \\
        --config.custom.image=raw.tif --config.custom.labels=labels.tif \\
        --config.custom.resolution_nm="(40, 4, 4)"

Image: TIFF stack, folder of PNG or TIFF sections, HDF5, zarr (v2, v3), N5, Neuroglancer precomputed
(also at gs://, s3:// and https:// addresses). Labels: the same, of the same size [z, y, x], as
instance ids (label_kind=ids; membranes are drawn where two meet), or as a mask (label_kind=membrane
or interior). Of HDF5, zarr and N5 name the dataset with image_dataset and labels_dataset. Leave
resolution_nm out where the files say it. At least 9 sections; the last third is scored. Several
volumes, and labels of a few sections or boxes: docs/your_own_volume.md.

To try it without a volume of your own: `python -m taclnet_jax.tools.synthesize --help` writes one
in each of these formats.
"""

from taclnet_jax.config import flagship_config


def get_config():
    config = flagship_config()
    config.dataset = 'custom'
    # 2 where pixels are smaller than the 6 to 12 nm at which membranes are well seen.
    config.downsample = 1
    # About 272 crops a pass, whatever the volume's size; an epoch is then 68 steps, and the whole
    # takes two hours of one CPU core.
    config.crops_limit = 272
    config.phase_one.epochs = 38
    config.phase_two.epochs = 4
    config.evaluate.test_sections = 20
    return config
