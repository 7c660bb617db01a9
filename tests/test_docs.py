"""The Python code of README.md and docs/attention.md runs, and their links lead somewhere."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
PAGES = {'README.md': 1, 'docs/attention.md': 8}


@pytest.mark.parametrize(('name', 'number'), PAGES.items())
def test_code_runs(name: str, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (ROOT / name).read_text()
    # Flax looks up the module that a class was defined in.
    page = ModuleType('page')
    monkeypatch.setitem(sys.modules, page.__name__, page)
    blocks = list(re.finditer(r'^```python\n(.*?)^```', text, re.MULTILINE | re.DOTALL))
    assert len(blocks) == number
    for block in blocks:
        line = text[: block.start()].count('\n') + 1
        # Newlines in front, so that a traceback names the page's own line.
        exec(compile('\n' * line + block[1], name, 'exec'), page.__dict__)


@pytest.mark.parametrize('name', PAGES)
def test_pictures_and_files_exist(name: str) -> None:
    links = re.findall(r'\]\(([^)#]+)\)', (ROOT / name).read_text().replace('\n', ' '))
    files = [link for link in links if not link.startswith('https://')]
    assert len(files) > 5
    for file in files:
        assert ((ROOT / name).parent / file).exists(), file
