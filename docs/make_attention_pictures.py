"""Makes the pictures of attention.md, one a step, from SNEMI3D's first sections.

TACLNET_DATA_DIR=/data python docs/make_attention_pictures.py
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

# One worker more than there are devices, for callbacks.
os.environ.setdefault('NPROC', str(max(2, os.cpu_count() or 1)))

import matplotlib

matplotlib.use('agg')
import matplotlib.pyplot as plt
import numpy as np
import tifffile
from PIL import Image

from taclnet_jax import critical_points, persistence_diagram, sta_attention

CROP = (slice(370, 530), slice(396, 556))
OUTPUT = Path(__file__).parent / 'images'


def save(
    name: str, image: np.ndarray, marks: np.ndarray | None = None, red: np.ndarray | None = None
) -> None:
    """Saves a picture of an image in [0, 1], with crosses at marks and another image in red."""
    figure = plt.figure(figsize=(3.2, 3.2), dpi=120)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(image, cmap='gray', vmin=0, vmax=1, interpolation='nearest')
    if red is not None:
        overlay = np.zeros((*red.shape, 4))
        overlay[..., 0], overlay[..., 3] = 1, 0.6 * red
        axes.imshow(overlay, interpolation='nearest')
    if marks is not None:
        rows, columns = np.nonzero(marks)
        axes.plot(columns, rows, '+', color='red', markersize=9, markeredgewidth=1.6)
    axes.set_axis_off()
    # Without the program's version in it, the same picture is the same file.
    figure.savefig(OUTPUT / f'attention_{name}.png', metadata={'Software': None})
    plt.close(figure)


def save_diagram(prob: np.ndarray, min_persistence: float = 0.1) -> None:
    diagram, mask = persistence_diagram(prob)
    birth, death = np.asarray(diagram)[np.asarray(mask)].T
    lasting = birth - death > min_persistence
    figure, axes = plt.subplots(figsize=(3.2, 3.2), dpi=120, layout='constrained')
    axes.plot([0, 1], [0, 1], color='black', linewidth=0.8)
    axes.plot([min_persistence, 1], [0, 1 - min_persistence], color='black', linewidth=0.8, ls=':')
    axes.plot(birth[~lasting], death[~lasting], '.', color='gray', label='noise')
    axes.plot(birth[lasting], death[lasting], '+', color='red', label='loops')
    axes.set(xlabel='birth', ylabel='death', xlim=(0, 1), ylim=(0, 1), aspect='equal')
    axes.legend(loc='upper left', fontsize=8)
    figure.savefig(OUTPUT / 'attention_diagram.png', metadata={'Software': None})
    plt.close(figure)


def main() -> None:
    if 'TACLNET_DATA_DIR' not in os.environ:
        sys.exit('Set TACLNET_DATA_DIR to the folder with likelihoods/ and snemi3d/.')
    data = Path(os.environ['TACLNET_DATA_DIR'])
    section = tifffile.imread(data / 'snemi3d' / 'train-input.tif', key=1)[CROP] / 255
    files = [data / 'likelihoods' / f'snemi3d_slice{i}.png' for i in range(3)]
    prob = np.stack([np.asarray(Image.open(f))[CROP] for f in files]).astype(np.float32) / 255
    result = sta_attention(prob, alpha=0.5)
    OUTPUT.mkdir(exist_ok=True)
    save('section', section)
    save('probability', prob[1])
    save_diagram(prob[1])
    save('points', prob[1], marks=np.asarray(critical_points(prob[1])))
    save('map', np.asarray(result.critical_maps[1]))
    save('attention', np.asarray(result.attention))
    save('refined', section, red=np.asarray(result.refined))


if __name__ == '__main__':
    main()
