"""Makes configuration.md: every setting, its default, what it may be, and what it means.

python docs/make_configuration.py
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from taclnet_jax.config.schema import Entry, Settings, entries
from taclnet_jax.config.settings import RunSettings

OUTPUT = Path(__file__).parent / 'configuration.md'

HEAD = """\
# Configuration

Every setting of a run. This page is made from [taclnet_jax/config](../taclnet_jax/config) by
`python docs/make_configuration.py`.

A configuration is a Python file with a function `get_config()`, which takes the defaults and
changes what the run needs. [configs/](../configs) has one for each data set, which can be named
without its path: `--config=isbi12`. Any setting can be changed on the command line as well:

    --config=isbi12 --config.fold=2 --config.attention.alpha=0.5 --config.crop="(128, 128)"

Tuples are written in quotes, as in Python. Names and values that cannot work are refused before
anything is written, with what is allowed.

A workdir holds one run. What a setting is for says whether that run may be told another value:

| for | what hangs on it | another value in the same workdir |
|---|---|---|
| training | the network's parameters | refused; the message names it |
| phase_two | those after phase one | likewise, but runs can share their phase one (`start_from`) |
| scoring | which checkpoint is kept, and its scores | allowed, with the run's `--config` |
| free | neither: where files lie, how much memory is taken | allowed |
"""

TAIL = """
## Weights of VGG19

The perceptual loss compares features of VGG19 as trained on ImageNet. Its weights do not come with
this package, and no .pth file is read. With PyTorch this makes an .npz of torchvision's
[vgg19-dcbb9e9d.pth](https://download.pytorch.org/models/vgg19-dcbb9e9d.pth).

<!-- not run in CI: needs PyTorch and the weights -->
```sh
python -c "
import numpy, torch
weights = torch.load('vgg19-dcbb9e9d.pth', weights_only=True)
numpy.savez('vgg19.npz', **{name: array.detach().numpy() for name, array in weights.items()})
"
```

`--config.perceptual_loss.vgg19=vgg19.npz` then takes it. Any .npz will do that has the arrays
`features.0.weight` `[out, in, 3, 3]`, `features.0.bias` and so on, of the first three blocks.
"""


def make_page() -> str:
    """The text of configuration.md."""
    settings = RunSettings()
    tables: dict[str, list[Entry]] = {}
    for entry in entries(settings):
        tables.setdefault(entry.key.rpartition('.')[0], []).append(entry)
    meanings = {block.BLOCK: block.__doc__ or '' for block in _blocks(settings)}
    parts = [HEAD, '## The run and its data\n', _table(tables.pop(''))]
    for name, rows in tables.items():
        # In Markdown <...> would be HTML.
        meaning = ' '.join(meanings[name].split()).replace('<', '&lt;')
        parts += [f'\n## {name}\n', meaning + '\n', _table(rows)]
    return '\n'.join([*parts, TAIL])


def _blocks(settings: Settings) -> Iterable[Settings]:
    yield settings
    for value in vars(settings).values():
        if isinstance(value, Settings):
            yield from _blocks(value)


def _table(rows: Iterable[Entry]) -> str:
    lines = ['| setting | default | allowed | for | meaning |', '|---' * 5 + '|']
    for entry in rows:
        meaning = entry.field.metadata['meaning'].replace('<', '&lt;')
        cells = (f'`{entry.key}`', f'`{entry.value!r}`', _allowed(entry), entry.role, meaning)
        lines.append(f'| {" | ".join(cells)} |')
    return '\n'.join(lines)


def _allowed(entry: Entry) -> str:
    low, high = entry.field.metadata['low'], entry.field.metadata['high']
    if entry.choices:
        return ', '.join(f'`{choice}`' for choice in entry.choices)
    if low is None:
        return ''
    return f'{low:g} or more' if high is None else f'{low:g} to {high:g}'


if __name__ == '__main__':
    OUTPUT.write_text(make_page())
