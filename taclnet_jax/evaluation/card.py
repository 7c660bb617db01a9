"""The card of a model that is handed out."""

import textwrap
from pathlib import Path
from typing import Any

import taclnet_jax
from taclnet_jax.errors import InputError
from taclnet_jax.evaluation.report import format_table
from taclnet_jax.files import parse_json
from taclnet_jax.inference import Model
from taclnet_jax.volumes.units import shown_nm


def model_card(model: Model, workdir: str | Path) -> str:
    """The card of a run's model, with the run's own scores.

    Args:
        model: of a run.
        workdir: the run, evaluated; or of fold 0, which holds out nothing to be scored on.

    Raises:
        InputError: it was not evaluated, or its results.json is damaged.
    """
    path = Path(workdir) / 'results.json'
    try:
        return _of_run(model, parse_json(path.read_text()))
    except FileNotFoundError:
        if model.settings.sampling.fold == 0:
            return _of_all(model)
        found = 'no such file'
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        found = f'something else ({type(error).__name__}: {error})'
    raise InputError(
        f'Expected the scores of an evaluated run in {path}, found {found}; evaluate it first with '
        '--mode=evaluate.'
    )


def _of_all(model: Model) -> str:
    dataset = model.settings.data.dataset
    data = (
        f'{dataset}. All of its labelled sections were trained on, and nothing was held out. Cite '
        'the data set, and mind its terms.'
    )
    scores = 'Not scored. Say here what networks of the same settings reached on other folds.\n'
    return format_card(model, dataset, 'THIS_FOLDER', data, scores)


def _of_run(model: Model, results: dict[str, Any]) -> str:
    if model.resolution_nm is None:  # of whatever else there is, nothing was taken
        raise ValueError('no cuts and voxel size')
    if results['step'] != model.step:
        raise ValueError(f'scores of step {results["step"]}, not of {model.step}')
    first, last = results['sections'][0], results['sections'][-1]
    data = (
        f'{results["dataset"]}. Sections {first} to {last} were held out and give the scores '
        'below. Cite the data set, and mind its terms.'
    )
    return format_card(model, results['dataset'], 'THIS_FOLDER', data, format_table(results))


def format_card(model: Model, dataset: str, place: str, data: str, scores: str) -> str:
    """Markdown: what a model is, what it was trained on, how well it does, what it is not for.

    Args:
        model: with its voxel size.
        dataset: name of the data.
        place: for --model.
        data: sentences on what it was trained on, its terms, and what was held out.
        scores: tables.
    """
    settings = model.settings
    seen = ' It sees half of that resolution in y and x.' if settings.data.downsample == 2 else ''
    data = f'{data} Voxels have {shown_nm(model.voxel_size())} (z, y, x).{seen}'
    count, slices = model.parameter_count, settings.sampling.slices
    together = 'single sections' if slices == 1 else f'{slices} sections together'
    return f"""# A model of {dataset}

Membrane probabilities, topological attention and segments of electron-microscopy sections, by
taclnet_jax {taclnet_jax.__version__}:

```sh
taclnet --mode=predict --model={place} --input=stack.tif --output=predictions
```

## What it is

{settings.model.name}, {count:,} parameters, {together}, after
{model.step} updates. All settings are in model.json; parameters are kept in float16.

## What it was trained on

{textwrap.fill(data, 100, break_long_words=False, break_on_hyphens=False)}

## How well it does

{scores}
## What it is not for

It has seen one volume. On other tissue, stains, microscopes or voxel sizes it may fail without a
word: look at its membranes first, and fine-tune it on a few labelled sections
(config.initialise_from) where they leak.
"""
