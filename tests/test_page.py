"""Pages are one file: nothing is fetched, text is text."""

from __future__ import annotations

import base64
import io
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
from PIL import Image

from taclnet_jax import page


class Found(HTMLParser):
    """Tags with their attributes, and the text between them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_text_is_escaped_everywhere() -> None:
    evil = '<script>alert("&")</script>'
    parts = [
        page.heading(evil),
        page.paragraph(evil),
        page.table([evil], [[evil, 0.123456, 7]]),
        page.settings({'a': {'b': evil, evil: 1}}),
        page.link(f'"{evil}', evil),
    ]
    found = Found(page.page(evil, parts))
    assert 'script' not in {tag for tag, _ in found.tags}
    assert found.texts.count(evil) == 8  # the title twice
    assert '0.1235' in found.texts and '7' in found.texts
    assert 'a.b' in found.texts and f'a.{evil}' in found.texts
    assert [a['href'] for tag, a in found.tags if tag == 'a'] == [f'"{evil}']


def test_pictures_are_inside(tmp_path: Path) -> None:
    rgb = np.zeros((50, 2800, 3), np.uint8)
    rgb[:, :1400] = (200, 30, 30)
    Image.fromarray(rgb).save(tmp_path / 'wide.png')
    found = Found(page.page('x', [page.picture(tmp_path / 'wide.png', '"A" & B')]))
    ((_, attributes),) = [tag for tag in found.tags if tag[0] == 'img']
    assert attributes['alt'] == '"A" & B' and '"A" & B' in found.texts
    kind, _, data = attributes['src'].partition(',')
    assert kind == 'data:image/jpeg;base64'
    image = np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))).astype(int)
    assert image.shape == (25, 1400, 3)
    assert np.abs(image[:, :680] - (200, 30, 30)).max() < 12 and image[:, 720:].max() < 12
