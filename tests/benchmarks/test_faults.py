"""Faults on purpose: that those are found which something is wrong with, and the command itself."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from benchmarks.faults import damaged, runs
from benchmarks.faults.__main__ import STAGES, prove
from benchmarks.faults.epochs import judged
from benchmarks.faults.fuzz import Reader, mutated
from benchmarks.faults.mutations import damage
from benchmarks.faults.reader import VALUES, WRONG
from benchmarks.faults.stage import LeftOut, Outcome, Piece, Place, Stage
from benchmarks.faults.whole_files import KINDS


@pytest.mark.slow
def test_a_few_of_each_kind(tmp_path: Path) -> None:
    few = [replace(stage, quick=3 if stage.name != 'fuzz' else len(KINDS)) for stage in STAGES]
    names = ['truncated', 'deleted', 'flipped', 'fuzz']
    assert prove(tmp_path, few, names, 1, True) == 0, (tmp_path / 'faults.md').read_text()
    found = json.loads((tmp_path / 'faults.json').read_text())['stages']
    assert {name: entry['times'] for name, entry in found.items()} == {
        'truncated': 3, 'deleted': 3, 'flipped': 3, 'fuzz': len(KINDS)
    }  # fmt: skip
    assert not (tmp_path / 'scratch').exists() and not (tmp_path / 'kept').exists()


def counting(wrong: int, stop: int) -> Stage:
    """Its piece of the number `wrong` is wrong; that of `stop` is interrupted."""

    @contextlib.contextmanager
    def opened(place: Place) -> Iterator[Piece]:
        def piece(number: int, rng: Random) -> Outcome:
            if number == stop:
                raise KeyboardInterrupt
            (place.scratch / 'file').write_text(f'{number} {rng.random()}')
            if number == wrong:
                return Outcome('wrong', place.keep(place.scratch / 'file', str(number)).name)
            return Outcome('right', times=2)

        yield piece

    return Stage('counting', 'counting', 'all right', 99, 7, opened)


def left_out(place: Place) -> contextlib.AbstractContextManager[Piece]:
    raise LeftOut('no such machine')


def test_it_goes_on_where_it_was_stopped_and_keeps_what_is_wrong(tmp_path: Path) -> None:
    pages = []
    for name, stops in (('whole', [-1]), ('stopped', [1, 3, -1])):
        for stop in stops:
            stages = [counting(2, stop), Stage('other', 'other', '', 1, 1, left_out)]
            with contextlib.suppress(KeyboardInterrupt):
                assert prove(tmp_path / name, stages, ['counting', 'other'], 5, True) == 1
        kept = (tmp_path / name / 'kept' / '2').read_text()
        pages.append(((tmp_path / name / 'faults.md').read_text(), kept))
    assert pages[0] == pages[1]
    lines = pages[0][0].splitlines()
    assert lines[2] == '| counting | all right | 7 | right (6), wrong (1) | 1 | 0 |'
    assert 'left out: no such machine' in lines[3] and lines[-1] == '- counting: 2'
    with pytest.raises(ValueError, match='is of seed 5 and --quick'):
        prove(tmp_path / 'whole', stages, ['counting'], 6, True)


@pytest.mark.slow
def test_a_process_that_dies_or_fails_is_told(tmp_path: Path) -> None:
    place = Place(tmp_path, tmp_path / 'kept', 1)
    (tmp_path / 'whole' / 'n5').mkdir(parents=True)
    KINDS['n5'](tmp_path / 'whole' / 'n5')
    with contextlib.closing(Reader(place)) as reader:
        assert reader.read('n5', tmp_path / 'whole' / 'n5' / 'grey') == (VALUES, '')
        outcome, told = reader.read('no kind', tmp_path)
        assert outcome == WRONG and 'KeyError at reader.py' in told
        process = reader._process
        assert process is not None
        process.send_signal(signal.SIGSTOP)  # it dies with a question unanswered
        process.kill()
        outcome, told = reader.read('n5', tmp_path)
        assert outcome == WRONG and told.startswith('died with status -9')
        assert reader._process is None  # the next file gets a new one


def test_damage_is_damage(tmp_path: Path) -> None:
    for kind in ('tiff', 'png', 'zarr3', 'precomputed'):
        (tmp_path / kind).mkdir()
        KINDS[kind](tmp_path / kind)
    changed = 0
    for number in range(40):
        kind = ('tiff', 'png', 'zarr3', 'precomputed')[number % 4]
        case = tmp_path / 'case'
        mutated(tmp_path, case, kind, Random(number))
        whole = [tree(path) for path in (tmp_path / kind).iterdir()]
        changed += tree(case) not in whole
        before = tree(case)
        mutated(tmp_path, case, kind, Random(number))
        assert tree(case) == before  # by the number alone
    assert changed > 35
    (tmp_path / 'about.json').write_text('')
    assert damage(tmp_path / 'about.json', Random(0))  # nothing is too small


def tree(path: Path) -> dict[str, bytes]:
    files = [path] if path.is_file() else sorted(f for f in path.rglob('*') if f.is_file())
    return {'' if f == path else str(f.relative_to(path)): f.read_bytes() for f in files}


def test_a_checkpoint_that_is_another_is_found(tmp_path: Path) -> None:
    template = runs.new_state('convlstm')
    one, two = (runs.random_state(template, step, step) for step in (1, 2))
    assert damaged.same(one, one) and not damaged.same(one, two)
    with damaged.opened('deleted')(Place(tmp_path, tmp_path / 'kept', 1)) as piece:
        whole = tmp_path / 'saved_deleted' / 'checkpoints' / 'last'
        # As if a damaged one were loaded without a word: it holds what the one before does.
        shutil.rmtree(whole / '2')
        shutil.copytree(whole / '1', whole / '2')
        # Without some of its files, whose names are random, it cannot be read, and that is named.
        outcomes = (piece(number, Random(number)) for number in range(1, 100, 2))
        wrong = next(outcome.wrong for outcome in outcomes if outcome.wrong)
    assert 'not named' in wrong and len(list((tmp_path / 'kept').iterdir())) == 1


def test_what_grows_is_found() -> None:
    samples = [
        {'epoch': epoch, 'memory_mb': 500 + 0.1 * epoch, 'open_files': 9, 'threads': 5, 'files': 7}
        for epoch in range(1000)
    ]
    assert judged(samples, 1000)[1] == 'memory mb 537 to 587'
    level = [{**sample, 'memory_mb': 500} for sample in samples]
    assert judged(level, 1000) == (
        'memory mb 500 to 500, open files 9 to 9, threads 5 to 5, files 7 to 7',
        '',
    )
