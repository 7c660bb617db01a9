"""Files and folders that are written whole or not at all."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from taclnet_jax import files
from taclnet_jax.errors import InputError


def tree(folder: Path) -> dict[str, str]:
    """Everything below a folder, with the contents of files."""
    return {
        str(path.relative_to(folder)): path.read_text() if path.is_file() else ''
        for path in folder.rglob('*')
    }


def test_stamps_tell_what_was_written(tmp_path: Path) -> None:
    (tmp_path / 'elsewhere').mkdir()
    write_folder(tmp_path / 'folder', 'a')
    (tmp_path / 'folder' / 'link').symlink_to('../elsewhere')
    (tmp_path / 'folder' / 'loop').symlink_to('..')
    (tmp_path / 'folder' / 'nowhere').symlink_to('missing')
    (tmp_path / 'folder' / 'itself').symlink_to('itself')
    stamps = {files.stamp(str(tmp_path / 'folder'))}
    (tmp_path / 'elsewhere' / 'file').write_text('b')
    stamps.add(files.stamp(str(tmp_path / 'folder')))
    (tmp_path / 'folder' / 'inner' / 'file').write_text('longer')
    stamps.add(files.stamp(str(tmp_path / 'folder')))
    assert len(stamps) == 3 and files.stamp('') == files.stamp('https://a/b') == ''


def write_folder(folder: Path, text: str) -> None:
    folder.mkdir()
    (folder / 'inner').mkdir()
    (folder / 'inner' / 'file').write_text(text)


def test_text_and_bytes_replace_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / 'a.txt'
    for text in ('first', 'second: é\n'):
        files.write_text(path, text)
        assert path.read_bytes() == text.encode()
    files.write_bytes(path, b'\x00\xff')
    assert path.read_bytes() == b'\x00\xff'
    assert os.listdir(tmp_path) == ['a.txt']


@pytest.mark.parametrize('error', [OSError(28, 'full'), KeyboardInterrupt(), ValueError('mine')])
@pytest.mark.parametrize('kind', ['file', 'folder'])
@pytest.mark.parametrize('exists', [False, True])
def test_a_failure_changes_nothing(
    tmp_path: Path, error: BaseException, kind: str, exists: bool
) -> None:
    target = tmp_path / 'deep' / 'er' / 'target'
    if exists:
        target.parent.mkdir(parents=True)
        write_folder(target, 'old') if kind == 'folder' else target.write_text('old')
    before = tree(tmp_path)
    with pytest.raises(type(error)), files.replacing(target) as partial:
        write_folder(partial, 'half') if kind == 'folder' else partial.write_text('half')
        raise error
    assert tree(tmp_path) == before


def test_a_failed_write_of_bytes_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files.write_text(tmp_path / 'a', 'old')

    def full(self: Path, data: bytes) -> None:
        with self.open('wb') as file:
            file.write(data[:2])
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(Path, 'write_bytes', full)
    with pytest.raises(OSError, match='No space'):
        files.write_text(tmp_path / 'a', 'new')
    assert tree(tmp_path) == {'a': 'old'}


def test_the_old_file_stands_until_the_new_one_is_whole(tmp_path: Path) -> None:
    target = tmp_path / 'a'
    target.write_text('old')
    with files.replacing(target) as partial:
        partial.write_text('new')
        assert target.read_text() == 'old' and partial.parent == tmp_path
    assert tree(tmp_path) == {'a': 'new'}


def test_a_folder_replaces_an_older_one_with_all_that_is_in_it(tmp_path: Path) -> None:
    target = tmp_path / 'a'
    write_folder(target, 'old')
    (target / 'more').write_text('old')
    with files.replacing(target) as partial:
        write_folder(partial, 'new')
        assert (target / 'more').read_text() == 'old'
    assert tree(tmp_path) == {'a': '', 'a/inner': '', 'a/inner/file': 'new'}


def test_a_folder_that_cannot_take_its_place_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, rename = tmp_path / 'a', os.rename
    write_folder(target, 'old')
    before = tree(tmp_path)

    def refuse(source: Path, to: Path) -> None:
        if to == target and source.suffix == '.partial':
            raise OSError(5, 'Input/output error')
        rename(source, to)

    monkeypatch.setattr(os, 'rename', refuse)
    with pytest.raises(OSError, match='Input/output'), files.replacing(target) as partial:
        write_folder(partial, 'new')
    assert tree(tmp_path) == before


def test_missing_folders_are_made_at_the_end(tmp_path: Path) -> None:
    with files.replacing(tmp_path / 'deep' / 'er' / 'a') as partial:
        partial.write_text('new')
        assert partial.parent == tmp_path and os.listdir(tmp_path) == [partial.name]
    assert tree(tmp_path) == {'deep': '', 'deep/er': '', 'deep/er/a': 'new'}


def test_files_and_folders_do_not_replace_each_other(tmp_path: Path) -> None:
    write_folder(tmp_path / 'folder', 'old')
    (tmp_path / 'file').write_text('old')
    before = tree(tmp_path)
    with pytest.raises(IsADirectoryError):
        files.write_text(tmp_path / 'folder', 'new')
    with pytest.raises(NotADirectoryError), files.replacing(tmp_path / 'file') as partial:
        write_folder(partial, 'new')
    with pytest.raises(NotADirectoryError):
        files.write_text(tmp_path / 'file' / 'below', 'new')
    with pytest.raises(FileNotFoundError), files.replacing(tmp_path / 'file'):
        pass  # nothing was written
    assert tree(tmp_path) == before


def test_relative_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    files.write_text(Path('a'), 'here')
    files.write_text(Path('b', 'a'), 'below')
    assert tree(tmp_path) == {'a': 'here', 'b': '', 'b/a': 'below'}


def test_permissions_are_those_of_any_new_file(tmp_path: Path) -> None:
    script = (
        'import os, sys\n'
        'from pathlib import Path\n'
        'from taclnet_jax import files\n'
        'os.umask(0o027)\n'
        'files.write_text(Path(sys.argv[1]), "text")\n'
        'with files.replacing(Path(sys.argv[2])) as partial:\n'
        '    partial.mkdir()\n'
    )
    paths = [tmp_path / 'file', tmp_path / 'deep' / 'folder']
    subprocess.run([sys.executable, '-c', script, *map(str, paths)], check=True)
    modes = [path.stat().st_mode & 0o777 for path in (*paths, paths[1].parent)]
    assert modes == [0o640, 0o750, 0o750]


def test_what_the_system_says_is_explained(tmp_path: Path) -> None:
    for error, said in ((OSError(28, 'full'), 'full'), (OSError('of a library'), 'of a library')):
        message = f'Cannot write {tmp_path}/a: {said}; nothing was changed there'
        with pytest.raises(InputError, match=message), files.explained(tmp_path / 'a'):
            raise error
    with pytest.raises(KeyError), files.explained(tmp_path / 'a'):
        raise KeyError('mine')


def test_space_is_checked_where_the_folder_will_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage, asked = shutil.disk_usage(tmp_path)._replace(free=250_000), []
    monkeypatch.setattr(shutil, 'disk_usage', lambda folder: asked.append(folder) or usage)
    path = tmp_path / 'deep' / 'a.tif'
    files.check_space(path, 250_000, 'config.data_dir')
    with pytest.raises(
        InputError,
        match=r'a\.tif needs 0\.4 MB more in .*/deep, where 0\.2 MB are free; .*config\.data_dir',
    ):
        files.check_space(path, 400_000, 'config.data_dir')
    assert asked == [tmp_path, tmp_path]


def test_json_of_whatever_origin_is_parsed_or_refused() -> None:
    assert files.parse_json(b'{"a": [1]}') == {'a': [1]}
    for text in ('{', '[' * 10**5, b'{"a": ' * 10**5, b'\xff'):
        with pytest.raises(ValueError):
            files.parse_json(text)


def test_what_a_link_leads_to_is_replaced(tmp_path: Path) -> None:
    write_folder(tmp_path / 'disk', 'old')
    (tmp_path / 'folder').symlink_to('disk')
    with files.replacing(tmp_path / 'folder') as partial:
        write_folder(partial, 'new')
    (tmp_path / 'file').write_text('old')
    (tmp_path / 'other').symlink_to('file')
    files.write_text(tmp_path / 'other', 'new')
    assert (tmp_path / 'folder').is_symlink() and (tmp_path / 'other').is_symlink()
    assert set(tree(tmp_path / 'disk').values()) == {'', 'new'}
    assert (tmp_path / 'file').read_text() == 'new'
    assert sorted(path.name for path in tmp_path.iterdir()) == ['disk', 'file', 'folder', 'other']
