"""The card of a model that is handed out."""

import json
from pathlib import Path
from typing import Any

import jax

from taclnet_jax.errors import InputError
from taclnet_jax.evaluation.report import format_table
from taclnet_jax.inference import Model


def model_card(model: Model, workdir: str | Path) -> str:
    """Markdown: what the model is, what it was trained on, how well it does, what it is not for.

    Args:
        model: of a run.
        workdir: the run, evaluated.

    Raises:
        InputError: it was not evaluated, or its results.json is damaged.
    """
    path = Path(workdir) / 'results.json'
    try:
        return _card(model, json.loads(path.read_text()))
    except FileNotFoundError:
        found = 'no such file'
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        found = f'something else ({type(error).__name__}: {error})'
    raise InputError(
        f'Expected the scores of an evaluated run in {path}, found {found}; evaluate it first with '
        '--mode=evaluate.'
    )


def _card(model: Model, results: dict[str, Any]) -> str:
    settings, sections = model.settings, results['sections']
    z, y, x = (f'{nm:g}' for nm in results['resolution_nm'])
    seen = ' It sees half of that resolution in y and x.' if settings.data.downsample == 2 else ''
    count = sum(a.size for a in jax.tree.leaves(model.variables['params']))
    return f"""# A model of {results['dataset']}

Membrane probabilities, topological attention and segments of electron-microscopy sections, by
taclnet_jax {results['version']}. Put this folder where you like:

```sh
taclnet --mode=predict --model=THIS_FOLDER --input=stack.tif --output=predictions
```

## What it is

{settings.model.name}, {count:,} parameters, {settings.sampling.slices} sections together, after
{model.step} updates. All settings are in model.json; parameters are kept in bfloat16.

## What it was trained on

{results['dataset']}, voxels of {z} x {y} x {x} nm (z, y, x).{seen} Sections {sections[0]} to
{sections[-1]} were held out and give the scores below. Cite the data set, and mind its terms.

## How well it does

{format_table(results)}
## What it is not for

It has seen one volume. On other tissue, stains, microscopes or voxel sizes it may fail without a
word: look at its membranes first, and fine-tune it on a few labelled sections
(config.initialise_from) where they leak.
"""
