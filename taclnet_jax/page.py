"""Pages of HTML that are one file: text is escaped, pictures are inside, nothing is fetched."""

import base64
import html
import io
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from string import Template
from typing import Any

from PIL import Image

# The policy forbids scripts, and whatever would have to be fetched.
_PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width">
<title>$title</title>
<style>
body { font: 16px/1.45 sans-serif; max-width: 1240px; margin: 2em auto; padding: 0 1em; }
table { border-collapse: collapse; margin: 1em 0; font-variant-numeric: tabular-nums; }
th, td { padding: 0.2em 0.8em; text-align: right; white-space: nowrap; }
th, td { border-bottom: 1px solid #ddd; }
th:first-child, td:first-child { text-align: left; }
tbody tr:hover { background: #f3f6fa; }
figure { margin: 1em 0; }
img { max-width: 100%; }
figcaption, .note { color: #555; }
details td { text-align: left; font-family: monospace; white-space: normal; }
</style>
</head>
<body>
<h1>$title</h1>
$body
</body>
</html>
""")
_WIDEST_PX = 1400


class Html(str):
    """Text that is markup already."""


def page(title: str, parts: Iterable[Html]) -> str:
    """A whole page of what the functions here return."""
    return _PAGE.substitute(title=html.escape(title), body='\n'.join(parts))


def heading(text: str) -> Html:
    """Of a part of the page."""
    return Html(f'<h2>{html.escape(text)}</h2>')


def paragraph(text: str) -> Html:
    """Text, or markup."""
    return Html(f'<p class="note">{_escaped(text)}</p>')


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> Html:
    """Rows of text or numbers under a header; floats are written with 4 digits."""

    def row(cells: Iterable[object], tag: str) -> str:
        return '<tr>' + ''.join(f'<{tag}>{_escaped(cell)}</{tag}>' for cell in cells) + '</tr>'

    body = '\n'.join(row(cells, 'td') for cells in rows)
    return Html(f'<table>\n<thead>{row(header, "th")}</thead>\n<tbody>\n{body}\n</tbody>\n</table>')


def settings(nested: Mapping[str, Any]) -> Html:
    """Settings by their names with dots, which a click unfolds."""
    rows = table(['name', ''], _flattened(nested, ''))
    return Html(f'<details>\n<summary>All settings</summary>\n{rows}\n</details>')


def link(address: str, text: str) -> Html:
    """To an address; all links of pages share one tab."""
    return Html(f'<a href="{html.escape(address)}" target="view">{html.escape(text)}</a>')


def picture(path: str | os.PathLike[str], caption: str) -> Html:
    """A picture in a file, at most 1400 pixels wide."""
    with Image.open(path) as opened:
        image = opened.convert('RGB')
    if image.width > _WIDEST_PX:
        size = _WIDEST_PX, round(image.height * _WIDEST_PX / image.width)
        image = image.resize(size, Image.Resampling.LANCZOS)
    encoded = io.BytesIO()
    image.save(encoded, 'JPEG', quality=80)
    text = html.escape(caption)
    data = base64.b64encode(encoded.getvalue()).decode()
    return Html(
        f'<figure>\n<img alt="{text}" src="data:image/jpeg;base64,{data}">\n'
        f'<figcaption>{text}</figcaption>\n</figure>'
    )


def _flattened(nested: Mapping[str, Any], within: str) -> Iterator[tuple[str, str]]:
    for name, value in nested.items():
        if isinstance(value, Mapping):
            yield from _flattened(value, f'{within}{name}.')
        else:
            yield f'{within}{name}', str(value)


def _escaped(cell: object) -> str:
    if isinstance(cell, Html):
        return cell
    return html.escape(f'{cell:.4f}' if isinstance(cell, float) else str(cell))
