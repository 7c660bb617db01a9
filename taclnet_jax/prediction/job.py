"""What is to be predicted."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from taclnet_jax.files import parse_json, write_text

NAMES = ('membrane', 'refined', 'attention', 'segments')
"""What can be predicted: P, P_hat, o, and the closed pieces of cell of each section."""

DTYPES = ('uint8', 'float32')
"""Of the maps: 255 stands for 1, or as they are."""

Index = tuple[int, int, int]
"""Of a block, along z, y and x."""


@dataclass(frozen=True)
class Job:
    """What is to be predicted; the same in every process that takes part.

    Attributes:
        model: folder of the run, or of the exported model, that predicts.
        step: of its parameters.
        parameters: sha256 of them, and of how its maps are cut.
        settings: of the run, and of how it is used.
        input: the volume.
        dataset: in it.
        shape: of it.
        gaps: sections before which others are missing.
        box: first and end (exclusive) voxel along z, y and x, of the volume.
        mask: a volume of the same size, '' for none: blocks where it is 0 are left out.
        mask_dataset: in it.
        voxel_nm: (z, y, x), in place of what the volume says; None = that.
        zoom: pixels of the model's own size in a pixel of the volume, along y and x.
        cut: threshold and closing (`inference.Cut`) that make the segments; None without these.
        names: of `NAMES`.
        dtype: of `DTYPES`.
        attends: whether anything of these needs attention.
        block: sections, and windows along y and along x, of a block.
        stamps: of the files of input and mask when the job began (`files.stamp`).
    """

    model: str
    step: int
    parameters: str
    settings: dict[str, Any]
    input: str
    dataset: str
    shape: tuple[int, int, int]
    gaps: tuple[int, ...]
    box: tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
    mask: str
    mask_dataset: str
    voxel_nm: tuple[float, float, float] | None
    zoom: tuple[float, float]
    cut: tuple[float, float | None] | None
    names: tuple[str, ...]
    dtype: str
    attends: bool
    block: tuple[int, int]
    stamps: dict[str, str] = field(compare=False)

    @property
    def map_names(self) -> tuple[str, ...]:
        """Those of `names` that are maps."""
        return tuple(name for name in self.names if name != 'segments')

    def write(self, path: Path) -> None:
        """Writes it as JSON."""
        write_text(path, json.dumps(asdict(self), indent=2) + '\n')

    @classmethod
    def read(cls, path: Path) -> 'Job':
        """What `write` wrote."""
        entries: dict[str, Any] = parse_json(path.read_text())
        entries['box'] = tuple((first, stop) for first, stop in entries['box'])
        entries |= {
            name: tuple(entries[name]) for name in ('shape', 'gaps', 'zoom', 'names', 'block')
        }
        for name in ('voxel_nm', 'cut'):
            entries[name] = entries[name] and tuple(entries[name])
        return cls(**entries)
