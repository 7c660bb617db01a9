"""What float16 costs: scores of a finished run, by its own parameters and by those of its export.

    python -m benchmarks.exported --run=runs/reproduce/isbi12_flagship_fold3_seed0_slices3

On the run's test sections, cut as the run is. A model that is handed out may differ by 1e-3.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks.finished import mean_scores, parser_of_run
from taclnet_jax import metrics
from taclnet_jax.commandline import allow_callbacks, with_messages
from taclnet_jax.data import load_volume
from taclnet_jax.data.volume import Volume
from taclnet_jax.data.windows import split_sections, targets_of
from taclnet_jax.inference import Model, export, load, predict_sections
from taclnet_jax.metrics.maps import MAPS, TITLES
from taclnet_jax.progress import with_progress


def scores(model: Model, volume: Volume) -> dict[str, dict[str, float]]:
    """Mean scores over the test sections, by the name of the map."""
    settings = model.settings
    targets = targets_of(split_sections(volume, settings.sampling).test)
    predicted = predict_sections(model.inference, model.variables, volume.image, targets)
    shown = with_progress(predicted, len(targets), 'test sections', 'section')
    return mean_scores(settings.evaluate, volume, shown, {name: model.cut(name) for name in MAPS})


def main() -> None:
    """Prints the table."""
    run = parser_of_run(__doc__).parse_args().run
    model = load(run)
    volume = load_volume(model.settings.data)
    with tempfile.TemporaryDirectory() as folder:
        export(model, Path(folder) / 'model', '')
        rounded = load(Path(folder) / 'model')
    one, other = scores(model, volume), scores(rounded, volume)
    columns = metrics.MAIN
    print(f'| map | {" | ".join(metrics.COLUMNS[name] for name in columns)} |')
    print('|---' * (1 + len(columns)) + '|')
    for name in MAPS:
        cells = [f'{one[name][c]:.4f} {other[name][c] - one[name][c]:+.4f}' for c in columns]
        print(f'| {TITLES[name]} | {" | ".join(cells)} |')


if __name__ == '__main__':
    allow_callbacks()
    with_messages(main)
