"""Damage of files, at random."""

from __future__ import annotations

import json
import re
import zlib
from pathlib import Path
from random import Random
from typing import Any

_EXTREMES = [0, 1, -1, 2**7, 2**8 - 1, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1]
_VALUES = [
    *(*_EXTREMES, 2**64, 10**18, 10**7, -(10**9), 1e308, -0.5, 1e-300),
    *(float('nan'), float('inf'), None, True, '', '0', 'x' * 3000, '../../x', '\0', 'é', [], {}),
    *([1], [0] * 100, [[1]], {'a': 1}, [None], ['x'], [10**9] * 3, [-1, -1, -1]),
]
_TEXT = ('.json', '.zarray', '.zattrs', '.zgroup', 'info', '_METADATA', 'metadata')


def damage(path: Path, rng: Random) -> str:
    """Changes a file in one way; says how."""
    content = path.read_bytes()
    ways = [_flip, _truncate, _splice, _number]
    if re.search(rb'\d', content[:4096]):
        ways.append(_digits)
    if content.startswith(b'\x89PNG'):
        ways += [_png, _png]
    if path.name.endswith(_TEXT):
        ways += 4 * [_json]
    way = rng.choice(ways)
    path.write_bytes(way(content, rng))
    return way.__name__.strip('_')


def _flip(content: bytes, rng: Random) -> bytes:
    """Other bits, up to eight."""
    changed = bytearray(content)
    for _ in range(rng.randint(1, 8) if changed else 0):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _truncate(content: bytes, rng: Random) -> bytes:
    return content[: rng.randrange(len(content) + 1)]


def _splice(content: bytes, rng: Random) -> bytes:
    """A range of bytes in another place, or in the place of another range; or gone, or zeros."""
    start, other = (rng.randrange(len(content) + 1) for _ in range(2))
    length = rng.choice([1, 2, 4, 8, 16, 64, 512, 4096])
    piece = content[start : start + length]
    new = rng.choice([piece, b'', bytes(len(piece)), rng.randbytes(len(piece))])
    return content[:other] + new + content[other + rng.choice([0, len(piece)]) :]


def _number(content: bytes, rng: Random) -> bytes:
    """A number of 1 to 8 bytes replaced by an extreme one, mostly in a header."""
    size = rng.choice([1, 2, 4, 8])
    number = rng.choice(_EXTREMES) % 2 ** (8 * size)
    where = rng.randrange(max(min(len(content), rng.choice([64, 512, len(content) + 1])), 1))
    raw = number.to_bytes(size, rng.choice(['little', 'big']))
    return content[:where] + raw + content[where + size :]


def _digits(content: bytes, rng: Random) -> bytes:
    """A number in text replaced by an extreme one."""
    found = rng.choice(list(re.finditer(rb'-?\d+', content[:4096])))
    new = str(rng.choice([x for x in _VALUES if isinstance(x, int | float)])).encode()
    return content[: found.start()] + new + content[found.end() :]


def _png(content: bytes, rng: Random) -> bytes:
    """A chunk of a PNG with other content, whose sum is right."""
    chunks, at = [], 8
    while at + 8 <= len(content):
        length = int.from_bytes(content[at : at + 4])
        chunks.append((content[at + 4 : at + 8], content[at + 8 : at + 8 + length]))
        at += 12 + length
    i = rng.randrange(len(chunks))
    kind, body = chunks[i]
    change = rng.choice([_flip, _truncate, _splice, _number])
    chunks[i] = (kind, change(body, rng))
    if rng.random() < 0.2:
        chunks.insert(rng.randrange(len(chunks)), rng.choice(chunks))
    parts = (
        len(body).to_bytes(4) + kind + body + zlib.crc32(kind + body).to_bytes(4)
        for kind, body in chunks
    )
    return content[:8] + b''.join(parts)


def _json(content: bytes, rng: Random) -> bytes:
    """JSON in which a value is another one, or an entry is missing, or all lies deep inside."""
    try:
        whole = json.loads(content)
    except ValueError:
        return _flip(content, rng)
    nodes: list[tuple[Any, Any]] = []

    def collect(node: Any) -> None:
        items = node.items() if isinstance(node, dict) else enumerate(node)
        for key, value in items:
            nodes.append((node, key))
            if isinstance(value, dict | list):
                collect(value)

    if rng.random() < 0.05:
        depth = rng.choice([100, 5000, 200_000])
        return rng.choice([b'[' * depth + content + b']' * depth, b'{"a":' * depth])
    if isinstance(whole, dict | list):
        collect(whole)
    if not nodes or rng.random() < 0.05:
        return json.dumps(rng.choice(_VALUES)).encode()
    for _ in range(rng.choice([1, 1, 2])):
        node, key = rng.choice(nodes)
        if isinstance(node, dict) and rng.random() < 0.25:
            node.pop(key, None)
        elif isinstance(node, dict) or key < len(node):
            node[key] = rng.choice(_VALUES)
    return json.dumps(whole).encode()
