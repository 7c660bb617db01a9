"""Makes configuration.md from taclnet_jax/config.py: every setting, its default and its comment.

python docs/make_configuration.py
"""

from __future__ import annotations

import ast
import io
import tokenize
from pathlib import Path
from typing import NamedTuple

from taclnet_jax import config as config_module
from taclnet_jax.config import FREE_KEYS

OUTPUT = Path(__file__).parent / 'configuration.md'

HEAD = """\
# Configuration

Every setting of a run, with its default. This page is made from
[taclnet_jax/config.py](../taclnet_jax/config.py) by `python docs/make_configuration.py`.

A configuration is a Python file with a function `get_config()`, which takes the defaults and
changes what the run needs; [configs/](../configs) has one for each data set. Any setting can be
changed on the command line as well, by its name with `--config.` in front:

    --config.fold=2 --config.attention.alpha=0.5 --config.crop="(128, 128)"

Tuples are written in quotes, as in Python; the type of a setting cannot change. Names and values
that cannot work are refused before anything is written, with what is allowed.

A workdir belongs to one configuration. Only these may differ between the calls of one run, because
they say where files lie and how results are shown:
{free}.

A row without text belongs to the text above it.
"""


class Setting(NamedTuple):
    """A row of a table."""

    name: str
    default: str
    allowed: str
    meaning: str


def make_page() -> str:
    """The text of configuration.md."""
    source = Path(config_module.__file__).read_text()
    comments = _comments(source)
    top: list[Setting] = []
    blocks: list[tuple[str, str, list[Setting]]] = []
    for statement in _assignments(source):
        target, value = statement.targets[0], statement.value
        assert isinstance(target, ast.Attribute)
        if not _is_block(value):
            default = ast.get_source_segment(source, value)
            top.append(_setting(target.attr, default, _above(comments, statement.lineno)))
            continue
        assert isinstance(value, ast.Call) and isinstance(value.args[0], ast.Dict)
        rows = []
        for key, default in zip(value.args[0].keys, value.args[0].values, strict=True):
            assert isinstance(key, ast.Constant) and default is not None
            own = '' if key.lineno == statement.lineno else _above(comments, key.lineno)
            beside = comments.get(default.end_lineno or 0, (0, ''))
            rows.append(
                _setting(
                    f'{target.attr}.{key.value}',
                    ast.get_source_segment(source, default),
                    ' '.join(text for text in (own, beside[1] if beside[0] else '') if text),
                )
            )
        blocks.append((target.attr, _above(comments, statement.lineno), rows))

    head = HEAD.format(free=', '.join(f'`{key}`' for key in FREE_KEYS))
    parts = [head, '## The run and its data\n', _table(top)]
    for name, text, rows in blocks:
        parts += [f'\n## {name}\n', *([text + '\n'] if text else []), _table(rows)]
    return '\n'.join(parts) + '\n'


def _assignments(source: str) -> list[ast.Assign]:
    """The statements `config.<key> = ...` of get_config."""
    functions = [node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)]
    body = next(node.body for node in functions if node.name == 'get_config')
    return [
        node
        for node in body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Attribute)
    ]


def _is_block(value: ast.expr) -> bool:
    return (
        isinstance(value, ast.Call)
        and isinstance(value.func, ast.Name)
        and value.func.id == 'ConfigDict'
    )


def _comments(source: str) -> dict[int, tuple[bool, str]]:
    """By line: whether code stands before the comment, and its text."""
    return {
        token.start[0]: (
            not token.line.strip().startswith('#'),
            token.string.removeprefix('#').strip(),
        )
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }


def _above(comments: dict[int, tuple[bool, str]], line: int) -> str:
    """The comment in the lines right above one."""
    lines: list[str] = []
    while (line := line - 1) in comments and not comments[line][0]:
        lines.insert(0, comments[line][1])
    return ' '.join(lines)


def _setting(name: str, default: str | None, meaning: str) -> Setting:
    # In Markdown <...> would be HTML.
    return Setting(name, default or '', _allowed(name), meaning.replace('<', '&lt;'))


def _allowed(name: str) -> str:
    if name in config_module._CHOICES:
        return ', '.join(f'`{choice}`' for choice in config_module._CHOICES[name])
    if name in config_module._RANGES:
        low, high = config_module._RANGES[name]
        return f'{low:g} or more' if high is None else f'{low:g} to {high:g}'
    return ''


def _table(settings: list[Setting]) -> str:
    rows = [f'| `{s.name}` | `{s.default}` | {s.allowed} | {s.meaning} |' for s in settings]
    return '\n'.join(['| setting | default | allowed | meaning |', '|---|---|---|---|', *rows])


if __name__ == '__main__':
    OUTPUT.write_text(make_page())
