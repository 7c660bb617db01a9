"""Models that are handed out."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from commands import Run, run
from flax.traverse_util import flatten_dict
from made_up import image, model, tiny, write_run
from safetensors.numpy import load_file, save_file

from taclnet_jax.errors import InputError
from taclnet_jax.inference import Model, export, load, predict_sections
from taclnet_jax.main import export_run
from taclnet_jax.models import exported as module
from taclnet_jax.volumes import open_array, read_whole, write_array


@pytest.fixture(scope='module')
def used() -> Model:
    return model(
        model__normalise=True,
        model__iterations=2,
        evaluate__threshold_from='training',
        custom__image='/home/somebody/secret.tif',
        data_dir='/home/somebody',
        start_from='/home/somebody/run',
    )


@pytest.fixture(scope='module')
def folder(used: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('exported') / 'model'
    export(used, folder, '# A card\n')
    return folder


def test_what_is_read_is_what_was_written_in_float16(used: Model, folder: Path) -> None:
    read = load(folder)
    assert (folder / 'README.md').read_text() == '# A card\n'
    assert (read.step, read.chosen, read.resolution_nm) == (
        used.step,
        used.chosen,
        used.resolution_nm,
    )
    assert read.settings.model == used.settings.model
    assert read.settings.inference_options == used.settings.inference_options
    written, found = (flatten_dict(jax.device_get(m.variables), sep='/') for m in (used, read))
    assert written.keys() == found.keys() and any(name.startswith('batch') for name in found)
    for name, x in written.items():
        kept = x.astype(np.float16) if name.startswith('params') else x
        assert found[name].dtype == np.float32
        np.testing.assert_array_equal(found[name], np.asarray(kept, np.float32))


def test_what_float16_cannot_hold_stays_as_it_is(used: Model, tmp_path: Path) -> None:
    large = jax.tree.map(lambda x: x.at[...].set(1e5), used.variables)
    export(replace(used, variables=large), tmp_path / 'model', '')
    jax.tree.map(np.testing.assert_array_equal, load(tmp_path / 'model').variables, large)


def test_no_place_of_whoever_trained_it_is_handed_out(folder: Path) -> None:
    assert 'somebody' not in (folder / 'model.json').read_text()


def test_a_stack_in_memory_is_predicted_like_sections_one_by_one() -> None:
    used = tiny()
    stack = image((4, 48, 70))
    found = used.predict(stack)
    assert {name: x.dtype for name, x in found.items()} == {
        'membrane': np.float32,
        'attention': np.float32,
        'refined': np.float32,
        'segments': np.int32,
    }
    targets = [(z, range(4)) for z in range(4)]
    last = 0
    for one in predict_sections(used.inference, used.variables, stack, targets):
        z = one.section
        np.testing.assert_array_equal(found['membrane'][z], one.prob)
        np.testing.assert_array_equal(found['attention'][z], one.attention)
        np.testing.assert_array_equal(found['refined'][z], one.refined)
        numbers = np.unique(found['segments'][z])
        assert numbers[numbers > 0].min(initial=last + 1) == last + 1
        last = max(last, numbers.max())
    assert last > 4


def test_other_types_of_grey_values(folder: Path) -> None:
    used, stack = load(folder), image((3, 32, 32))
    of_floats = used.predict(stack / np.float32(255))
    np.testing.assert_array_equal(of_floats['membrane'], used.predict(stack)['membrane'])
    of_jax = used.predict(jnp.asarray(stack))
    np.testing.assert_array_equal(of_jax['segments'], used.predict(stack)['segments'])
    for wrong in (stack.astype(np.int64), stack * 2.0, stack[:2]):
        with pytest.raises(InputError):
            used.predict(wrong)
    others: Any = (
        stack.tolist(),
        stack[0],
        stack[:0],
        stack[:, :0],
        stack[None],
        None,
        'stack.tif',
    )
    for wrong in (*others, np.ma.array(stack)):
        with pytest.raises(InputError, match=r'Expected a NumPy array \[z, y, x\], found'):
            used.predict(wrong)


def copy(folder: Path, to: Path) -> Path:
    return Path(shutil.copytree(folder, to / 'copy'))


@pytest.mark.parametrize('name', ['model.json', 'model.safetensors'])
@pytest.mark.parametrize('damage', ['gone', 'half', 'flipped', 'empty', 'deep'])
def test_what_was_half_copied_or_damaged_is_refused(
    folder: Path, tmp_path: Path, name: str, damage: str
) -> None:
    path = copy(folder, tmp_path) / name
    data = bytearray(path.read_bytes())
    if damage == 'gone':
        path.unlink()
    elif damage == 'flipped':
        data[len(data) // 2] ^= 4
        path.write_bytes(data)
    else:
        rest = {'half': data[: len(data) // 2], 'empty': b'', 'deep': b'[' * 10**5}
        path.write_bytes(rest[damage])
    if name == 'model.json' and damage == 'flipped':
        return  # within a number it can be another one
    with pytest.raises(InputError, match=r'again'):
        load(tmp_path / 'copy')


def test_other_versions_and_networks_are_refused(folder: Path, tmp_path: Path) -> None:
    path = copy(folder, tmp_path) / 'model.json'
    description = json.loads(path.read_text())
    older = json.loads(path.read_text())
    del older['settings']['model']['kernel']
    path.write_text(json.dumps(older))
    with pytest.raises(InputError, match=r'not of this version.*model\.kernel'):
        load(tmp_path / 'copy')
    description['settings']['model']['features'] = [4, 8]
    path.write_text(json.dumps(description))
    with pytest.raises(InputError, match='another network'):
        load(tmp_path / 'copy')


@pytest.mark.parametrize(
    'changed',
    [
        *(
            {'cuts': {'P_hat': cut}}
            for cut in ([float('nan'), 0.2], ['0.5', None], [0.5], [0.5, -1])
        ),
        *({'cuts': {'P': cut}} for cut in ([True, None], [1e9, None], None)),
        *(
            {'resolution_nm': nm}
            for nm in ([0, 4, 4], [40, 4], [40, -4, 4], [10**400, 4, 4], '404', 5, None)
        ),
        *({'step': step} for step in ('7', 7.5, None)),
    ],
)
def test_odd_values_are_refused(folder: Path, tmp_path: Path, changed: dict[str, Any]) -> None:
    path = copy(folder, tmp_path) / 'model.json'
    description = json.loads(path.read_text())
    for name, value in changed.items():
        description[name] = description[name] | value if isinstance(value, dict) else value
    path.write_text(json.dumps(description))
    with pytest.raises(InputError, match='not of this version .* or damaged'):
        load(tmp_path / 'copy')


def test_safetensors_are_read_by_their_own_library(folder: Path, tmp_path: Path) -> None:
    tensors = load_file(folder / 'model.safetensors')
    assert all(x.dtype == np.float16 for n, x in tensors.items() if n.startswith('params'))
    save_file(tensors, tmp_path / 'again.safetensors')


def test_nothing_else_is_replaced(used: Model, folder: Path, tmp_path: Path) -> None:
    there = tmp_path / 'mine'
    there.mkdir()
    (there / 'thesis.tex').write_text('x')
    with pytest.raises(InputError, match='something else'):
        export(used, there, '')
    assert [path.name for path in there.iterdir()] == ['thesis.tex']


def test_what_was_not_evaluated_is_not_handed_out(tmp_path: Path) -> None:
    used = tiny(slices=1)
    with pytest.raises(InputError, match='evaluate the run'):
        export(Model(used.settings, used.network, used.variables, 1, {}, None), tmp_path / 'm', '')
    assert not any(tmp_path.iterdir())


def test_shipped_models_have_names(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(folder, tmp_path / 'tissue')
    monkeypatch.setattr(module, 'SHIPPED', tmp_path)
    assert load('tissue').step == load(folder).step
    with pytest.raises(InputError, match='or one of tissue; nothing does not exist'):
        load('nothing')


@pytest.mark.slow
def test_the_command_line_exports_and_predicts_with_it(tmp_path: Path, trained: Run) -> None:
    made = str(tmp_path / 'model')
    status, output = run('--mode=export', f'--workdir={trained.workdir}', f'--output={made}')
    assert status == 0, output
    card = (tmp_path / 'model' / 'README.md').read_text()
    assert '# A model of synthetic' in card and 'P_hat, closed' in card
    write_array(tmp_path / 'a.tif', image((4, 48, 48)), format='tiff')
    predict = ['--mode=predict', f'--input={tmp_path / "a.tif"}', '--dtype=float32']
    for place, name in ((f'--model={made}', 'b'), (f'--workdir={trained.workdir}', 'c')):
        status, output = run(*predict, place, f'--output={tmp_path / name}')
        assert status == 0, output
    one, other = (read_whole(open_array(tmp_path / n / 'refined.tif')) for n in 'bc')
    assert np.abs(one - other).max() < 0.02
    for wrong in ([f'--workdir={trained.workdir}'], ['--config=isbi12']):
        status, output = run(*predict, f'--model={made}', *wrong)
        assert status == 2 and 'without --workdir and --config' in output
    status, output = run(*predict, f'--model={made}')
    assert status == 2 and 'Expected --output' in output


def test_a_model_and_its_card_are_replaced_only_when_told(
    used: Model, folder: Path, tmp_path: Path
) -> None:
    there = copy(folder, tmp_path)
    (there / 'README.md').write_text('mine')
    with pytest.raises(InputError, match='replace them with --overwrite'):
        export(used, there, 'new')
    assert (there / 'README.md').read_text() == 'mine'
    export(used, there, 'new', overwrite=True)
    assert (there / 'README.md').read_text() == 'new'
    (there / 'thesis.tex').write_text('x')
    with pytest.raises(InputError, match='something else .thesis.tex.'):
        export(used, there, '', overwrite=True)
    assert (there / 'thesis.tex').exists()
    with pytest.raises(InputError, match='a folder of this machine, found the address gs://'):
        export(used, 'gs://bucket/model', '')
    export(used, (tmp_path / 'by address').as_uri(), '')
    assert load(tmp_path / 'by address').step == used.step
    (tmp_path / 'empty').mkdir()
    export(used, tmp_path / 'empty', '')
    assert load(tmp_path / 'empty').step == used.step


def test_a_run_that_held_out_nothing_is_handed_out_without_scores(tmp_path: Path) -> None:
    whole = {'fold': 0, 'validation_sections': 0, 'evaluate__threshold_from': 'fixed'}
    run_folder = write_run(tmp_path / 'run', tiny(evaluate__threshold=0.6, **whole))
    (run_folder / 'results.json').unlink()
    with pytest.raises(InputError, match='Expected the voxel size'):
        export_run(run_folder, tmp_path / 'model')
    (run_folder / 'data.json').write_text(json.dumps({'resolution_nm': (40, 4, 4)}))
    export_run(run_folder, tmp_path / 'model')
    model = load(tmp_path / 'model')
    assert model.resolution_nm == (40, 4, 4) and model.cut('P_closed') == (0.6, 0.3)
    card = (tmp_path / 'model' / 'README.md').read_text()
    assert 'nothing was held out' in card and 'Not scored' in card
    held_out = write_run(tmp_path / 'other', tiny(evaluate__threshold_from='fixed'))
    (held_out / 'results.json').unlink()
    with pytest.raises(InputError, match='evaluate it first'):
        export_run(held_out, tmp_path / 'again')


@pytest.mark.parametrize('inside', [None, 'stack.tif'])
def test_a_folder_of_data_hides_no_shipped_model(
    inside: str | None, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(folder, tmp_path / 'shipped' / 'tissue')
    monkeypatch.setattr(module, 'SHIPPED', tmp_path / 'shipped')
    monkeypatch.chdir(tmp_path)
    Path('tissue').mkdir()
    if inside:
        Path('tissue', inside).touch()
    assert load('tissue').place == tmp_path / 'shipped' / 'tissue'
    shutil.copytree(folder, tmp_path / 'tissue', dirs_exist_ok=True)
    assert load('tissue').place == Path('tissue')
