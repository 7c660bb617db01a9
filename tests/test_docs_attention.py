"""The code of docs/attention.md runs, from top to bottom, and its pictures exist."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

PAGE = Path(__file__).parents[1] / 'docs' / 'attention.md'


def test_code_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    text = PAGE.read_text()
    # Flax looks up the module that a class was defined in.
    page = ModuleType('attention_page')
    monkeypatch.setitem(sys.modules, page.__name__, page)
    blocks = list(re.finditer(r'^```python\n(.*?)^```', text, re.MULTILINE | re.DOTALL))
    assert len(blocks) == 8
    for block in blocks:
        line = text[: block.start()].count('\n') + 1
        # Newlines in front, so that a traceback names the page's own line.
        exec(compile('\n' * line + block[1], PAGE, 'exec'), page.__dict__)


def test_pictures_exist() -> None:
    pictures = re.findall(r'!\[[^]]*\]\(([^)]+)\)', PAGE.read_text())
    assert len(pictures) == 7
    for picture in pictures:
        assert (PAGE.parent / picture).is_file()
