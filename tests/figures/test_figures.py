"""Pictures: what stands at known pixels, their sizes, and files that are whole or absent."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib import _pylab_helpers
from matplotlib.patches import Patch
from skimage.io import imread

from taclnet_jax import figures, files, metrics
from taclnet_jax.errors import InputError
from taclnet_jax.figures import curves

MAPS = ('section', 'critical_map', 'attention', 'refined', 'prob')


def random_maps(shape, seed=0):
    """Random maps whose contrast is stretched already, from exactly 0 to exactly 1."""
    rng = np.random.default_rng(seed)
    return {name: rng.uniform(-0.2, 1.2, shape).clip(0, 1) for name in MAPS}


def coloured(values, colour_map):
    return mpl.colormaps[colour_map](values, bytes=True)[..., :3]


def places(picture, block, scale):
    """Corners (y, x) at which the picture shows the block, each pixel scale x scale large."""
    block = np.kron(block, np.ones((scale, scale, 1), np.uint8))
    height, width = block.shape[:2]
    whole, part = (np.dot(image.astype(np.int64), (1, 256, 65536)) for image in (picture, block))
    corners = np.argwhere(whole[: 1 - height or None, : 1 - width or None] == part[0, 0])
    for y, x in np.random.default_rng(0).integers((height, width), size=(60, 2)):
        corners = corners[whole[corners[:, 0] + y, corners[:, 1] + x] == part[y, x]]
    return [
        (y, x)
        for y, x in corners.tolist()
        if np.array_equal(whole[y : y + height, x : x + width], part)
    ]


def at(picture, corner, pixel, scale):
    y, x = (start + scale * place + scale // 2 for start, place in zip(corner, pixel, strict=True))
    return picture[y, x].tolist()


# Attention


def test_attention_panels_show_section_points_and_attention():
    maps = random_maps((64, 64))
    picture = figures.attention_panels(None, *(maps[name] for name in MAPS[:4]))
    assert picture.dtype == np.uint8 and picture.shape[2] == 3
    (section,) = places(picture, coloured(maps['section'], 'gray'), 8)
    (points,) = places(picture, coloured(maps['critical_map'], 'inferno'), 8)
    (attention,) = places(picture, coloured(maps['attention'], 'inferno'), 8)
    # Two by two: section and CP above, attention below the section.
    assert section[0] == points[0] < attention[0]
    assert section[1] == attention[1] < points[1]


def test_last_panel_is_attention_in_red_over_refined_in_blue_over_the_section():
    maps = random_maps((64, 64))
    maps['section'][:2, 0], maps['section'][2:4, 0] = 1, 0
    maps['attention'][:4, 0] = [0, 1, 0, 0]
    maps['refined'][:4, 0] = [0, 1, 0, 1]
    picture = figures.attention_panels(None, *(maps[name] for name in MAPS[:4]))
    (points,) = places(picture, coloured(maps['critical_map'], 'inferno'), 8)
    (attention,) = places(picture, coloured(maps['attention'], 'inferno'), 8)
    bright, attended, dark, membrane = (
        at(picture, (attention[0], points[1]), (row, 0), 8) for row in range(4)
    )
    assert bright == [255, 255, 255]
    assert attended == [224, 13, 10]
    assert dark == [0, 0, 0]
    assert membrane[2] > membrane[1] > membrane[0]


def test_probability_adds_two_panels_beside_the_section():
    maps = random_maps((64, 64))
    picture = figures.attention_panels(None, **maps)
    rows = [
        places(picture, coloured(maps[name], colours), 8)[0][0]
        for name, colours in (
            ('section', 'gray'),
            ('prob', 'gray_r'),
            ('refined', 'gray_r'),
            ('critical_map', 'inferno'),
        )
    ]
    assert rows[0] == rows[1] == rows[2] < rows[3]


@pytest.mark.slow
def test_a_single_point_stays_visible_in_a_large_section():
    maps = {name: np.zeros((1250, 1250)) for name in MAPS}
    maps['critical_map'][600, 600] = 1
    picture = figures.attention_panels(None, *(maps[name] for name in MAPS[:4]))
    shown = np.abs(picture.astype(int) - coloured(np.ones(1), 'inferno')).max(axis=-1) < 60
    # The colour bar shows the colour too, but never 4 pixels high.
    bright = np.argwhere(shown[:, : picture.shape[1] - 70])
    assert any(shown[y : y + 4, x : x + 4].all() for y, x in bright)


@pytest.mark.slow
@pytest.mark.parametrize(
    ('shape', 'panel'),
    [
        ((39, 39), (507, 507)),
        ((156, 156), (468, 468)),
        ((512, 512), (512, 512)),
        ((1250, 1250), (512, 512)),
        ((100, 400), (200, 800)),
        ((400, 100), (800, 200)),
        ((1, 1), (512, 512)),
        ((5, 2000), (2, 819)),
    ],
)
def test_pictures_fit_a_screen_whatever_the_section(shape, panel):
    maps = random_maps(shape)
    picture = figures.attention_panels(None, *(maps[name] for name in MAPS[:4]))
    assert 2 * panel[0] < picture.shape[0] < 2 * panel[0] + 120
    assert 2 * panel[1] < picture.shape[1] < 2 * max(panel[1], 340) + 140


@pytest.mark.parametrize('value', [0, 7, np.nan])
def test_constant_sections_and_empty_maps_are_drawn(value):
    empty = np.zeros((39, 39))
    picture = figures.attention_panels(None, np.full((39, 39), value), empty, empty, empty)
    assert len(places(picture, coloured(np.full((39, 39), 0.5), 'gray'), 13)) == 2


@pytest.mark.slow
@pytest.mark.parametrize('shape', [(39, 39), (512, 40)])
def test_nan_in_maps_is_drawn_as_zero(shape):
    maps = random_maps(shape)
    for values in maps.values():
        values[3, 4] = np.nan
    holes = {name: np.nan_to_num(values) for name, values in maps.items()}
    np.testing.assert_array_equal(
        figures.attention_panels(None, **maps), figures.attention_panels(None, **holes)
    )


def test_maps_of_another_shape_are_refused_by_name():
    maps = random_maps((20, 20))
    maps['attention'] = maps['attention'][None]
    with pytest.raises(InputError, match=r'attention of shape \(1, 20, 20\)'):
        figures.attention_panels(None, **maps)


# Grids


def grey(shape=(40, 40), seed=0):
    return coloured(np.random.default_rng(seed).uniform(0, 1, shape), 'gray')


def test_a_grid_has_its_panels_row_by_row():
    pictures = [grey(seed=seed) for seed in range(5)]
    picture = figures.grid([figures.Panel(str(k), rgb) for k, rgb in enumerate(pictures)], 3)
    corners = [corner for rgb in pictures for corner in places(picture, rgb, 13)]
    tops, lefts = zip(*corners, strict=True)
    assert len(corners) == 5
    assert tops[0] == tops[1] == tops[2] < tops[3] == tops[4]
    assert lefts[0] == lefts[3] < lefts[1] == lefts[4] < lefts[2]


def test_a_note_and_a_legend_take_lines_of_their_own():
    panels = [figures.Panel('one', grey()), figures.Panel('two', grey())]
    plain = figures.grid(panels, 2)
    noted = figures.grid([panels[0], panels[1]._replace(note='3 splits')], 2)
    ((top, left),) = places(plain, panels[0].rgb, 13)[:1]
    ((lower, _),) = places(noted, panels[0].rgb, 13)[:1]
    assert lower > top and noted.shape == (plain.shape[0] + lower - top, *plain.shape[1:])
    # The titles stay side by side above; the note is below the second only.
    above = noted[lower - 26 : lower - 2]
    assert (above[:, : left + 500] == 255).all() and (above[:, left + 500 :] < 200).any()
    patches = [Patch(facecolor='red', label='here'), Patch(facecolor='blue', label='there')]
    explained = figures.grid(panels, 2, legend=patches)
    below = explained[plain.shape[0] :]
    for colour in ([255, 0, 0], [0, 0, 255]):
        assert (below == colour).all(-1).sum() > 50
    np.testing.assert_array_equal(explained[: top + 520], plain[: top + 520])


def test_an_overlay_draws_in_pixels_of_the_picture():
    flat = np.full((40, 40, 3), 255, np.uint8)

    def outline(axis):
        axis.contour(np.arange(40)[:, None] * np.ones(40), [19.5], colors='red')

    picture = figures.grid([figures.Panel('', flat, overlay=outline)], 1)
    rows = np.flatnonzero((picture == [255, 0, 0]).all(-1).sum(1) > 400)
    assert abs(rows.mean() + 0.5 - (48 + 13 * 20)) < 1


def test_long_titles_shrink_to_their_panels():
    def widest(title):
        panels = [figures.Panel(title, np.full((40, 40, 3), 255, np.uint8))] * 2
        dark = (figures.grid(panels, 2)[:48] < 128).all(-1).any(0)
        return np.flatnonzero(dark[: 14 + 520 + 14]).max()

    assert widest('short') < 100
    assert 460 < widest('a title that is far too long for its panel, ' * 2) < 14 + 520


def test_panels_are_as_large_as_asked_for():
    small = figures.grid([figures.Panel('a', grey())] * 3, 3, side_px=200)
    assert len(places(small, grey(), 5)) == 3
    assert small.shape[1] == 3 * (200 + 14) + 14


# Comparison of segmentations


@pytest.fixture
def cells():
    """Four cells in a 40 x 40 section, divided by a cross of membrane; scale 13 on screen."""
    membrane = np.zeros((40, 40), bool)
    membrane[18:21] = membrane[:, 22:25] = True
    return membrane


def comparison(path, membrane, predicted, refined=None):
    rng = np.random.default_rng(0)
    section = rng.uniform(-0.2, 1.2, membrane.shape).clip(0, 1)
    prob = np.where(predicted, 1, rng.uniform(0, 0.4, membrane.shape))
    truth, segments = metrics.true_segments(membrane), metrics.segment(prob, 0.5)
    segments_refined = None if refined is None else metrics.segment(refined, 0.5)
    picture = figures.section_comparison(
        path, section, membrane, prob, refined, truth, segments, segments_refined, segments
    )
    (above,) = places(picture, coloured(prob, 'gray_r'), 13)
    # The predicted segments lie below P, beside the true ones.
    (_, left), *_ = places(picture, coloured(membrane * 1.0, 'gray_r'), 13)
    below = above[0] + 13 * 40 + 48
    return picture, lambda pixel, truth=False: at(
        picture, (below, left if truth else above[1]), pixel, 13
    )


def test_membrane_is_black_and_cells_have_colours_of_their_own(cells, tmp_path):
    _, colour = comparison(tmp_path / 'a.png', cells, cells)
    colours = [colour(pixel, truth=True) for pixel in ((5, 5), (5, 35), (35, 5), (35, 35))]
    assert len({tuple(c) for c in colours}) == 4
    assert colour((19, 10), truth=True) == colour((19, 10)) == [0, 0, 0]
    assert all(max(c) >= 127 for c in colours)


def test_segments_have_the_colours_of_the_cells_they_match(cells, tmp_path):
    thick = cells | np.roll(cells, 1, 0) | np.roll(cells, 1, 1)
    thick[2, :22] = True  # cuts a strip off the first cell: the numbers of all others shift
    _, colour = comparison(tmp_path / 'a.png', cells, thick)
    for pixel in ((10, 5), (5, 35), (35, 5), (35, 35)):
        assert colour(pixel) == colour(pixel, truth=True)


def test_splits_and_merges_show_in_the_colours(cells, tmp_path):
    wrong = cells.copy()
    wrong[12, :22] = True  # splits the first cell
    wrong[30, 22:25] = False  # joins the two lower ones
    _, colour = comparison(tmp_path / 'a.png', cells, wrong)
    assert colour((5, 5)) == colour((5, 5), truth=True)
    assert colour((15, 5)) != colour((5, 5))
    assert colour((35, 5)) == colour((35, 35)) != colour((5, 35))


def test_colours_depend_on_the_numbers_alone(cells, tmp_path):
    first, _ = comparison(tmp_path / 'a.png', cells, cells)
    np.random.seed(1)
    second, _ = comparison(tmp_path / 'b.png', cells, cells)
    np.testing.assert_array_equal(first, second)
    assert (tmp_path / 'a.png').read_bytes() == (tmp_path / 'b.png').read_bytes()


def test_refined_map_adds_a_column(cells, tmp_path):
    refined = np.random.default_rng(1).uniform(0, 1, cells.shape)
    without, _ = comparison(tmp_path / 'a.png', cells, cells)
    with_refined, _ = comparison(tmp_path / 'b.png', cells, cells, refined)
    assert with_refined.shape[0] == without.shape[0]
    assert with_refined.shape[1] == without.shape[1] + 13 * 40 + 14
    assert len(places(with_refined, coloured(refined, 'gray_r'), 13)) == 1


def test_closed_segments_tint_the_section_in_the_colours_of_their_cells(cells, tmp_path):
    truth, flat = metrics.true_segments(cells), np.zeros(cells.shape)
    picture = figures.section_comparison(
        tmp_path / 'a.png', flat, cells, cells * 1.0, flat, truth, truth, truth, truth
    )
    (top, left), *_ = places(picture, coloured(cells * 1.0, 'gray_r'), 13)
    below = top + 13 * 40 + 48
    for pixel in ((5, 5), (35, 30)):
        tinted = 0.6 * 127.5 + 0.4 * np.array(at(picture, (below, left), pixel, 13))
        found = at(picture, (below, left - 13 * 40 - 14), pixel, 13)
        np.testing.assert_allclose(found, tinted, atol=1)
    # Membrane shows the section itself.
    assert set(at(picture, (below, left - 13 * 40 - 14), (19, 10), 13)) <= {127, 128}


@pytest.mark.parametrize('membrane', [False, True])
def test_comparison_of_constant_sections_is_drawn(membrane, tmp_path):
    section = np.zeros((30, 50))
    mask = np.full(section.shape, membrane)
    segments = metrics.true_segments(mask)
    other = metrics.true_segments(~mask)
    figures.section_comparison(
        tmp_path / 'a.png', section, mask, mask * 1.0, section, segments, segments, other, other
    )
    assert imread(tmp_path / 'a.png').shape[2] == 3


# Training curves


@pytest.fixture
def drawn(monkeypatch):
    """The figure behind the last picture."""
    drawn, render = [], curves.rendered
    monkeypatch.setattr(curves, 'rendered', lambda figure: drawn.append(figure) or render(figure))
    return drawn


def records():
    """Two steps an epoch, validation every other epoch, the second phase from epoch 4 on."""
    for epoch in range(6):
        phase = 'ConvLSTM' if epoch < 4 else 'TACLNet'
        for step in (2 * epoch, 2 * epoch + 1):
            yield {'step': step, 'epoch': epoch, 'phase': phase, 'train/loss': 1 / (step + 1)}
        if epoch % 2:
            yield {
                'epoch': epoch,
                'validation/voi': 2.0 - epoch / 10,
                'validation/ari': epoch / 10,
                'validation/betti_error': 1.0,
                'time/data': 0.1,
            }


def test_training_curves_show_means_of_epochs(drawn, tmp_path):
    figures.training_curves(tmp_path / 'curves.png', list(records()))
    axes = {axis.get_title(loc='left'): axis for axis in drawn[-1].axes}
    assert [title.split(' ')[0].strip(',') for title in axes] == [
        'Cross-entropy',
        'DICE',
        'VOI',
        'Betti',
    ]
    loss = axes['Cross-entropy'].lines[0]
    np.testing.assert_array_equal(loss.get_xdata(), range(6))
    expected = [(1 / (2 * e + 1) + 1 / (2 * e + 2)) / 2 for e in range(6)]
    np.testing.assert_allclose(loss.get_ydata(), expected)
    voi = axes['VOI, bits (lower is better)'].lines[0]
    assert voi.get_label() == 'validation: VOI'
    np.testing.assert_allclose(voi.get_xydata(), [[1, 1.9], [3, 1.7], [5, 1.5]])


def test_training_curves_mark_the_border_between_phases(drawn, tmp_path):
    figures.training_curves(tmp_path / 'curves.png', list(records()))
    for axis in drawn[-1].axes:
        assert list(axis.lines[-1].get_xdata()) == [3.5, 3.5]
        assert [text.get_text() for text in axis.texts] == ['TACLNet →']


def test_training_curves_leave_out_what_cannot_be_drawn(drawn, tmp_path):
    odd = [
        {'train/loss': 1.0},
        {'epoch': 0, 'train/loss': float('nan'), 'validation/voi': None},
        {'epoch': 0, 'train/loss': 0.5, 'phase': 1},
    ]
    figures.training_curves(tmp_path / 'curves.png', odd)
    (axis,) = drawn[-1].axes
    assert axis.lines[0].get_xydata().tolist() == [[0, 0.5]]


def test_training_curves_without_records_are_an_empty_picture(tmp_path):
    figures.training_curves(tmp_path / 'curves.png', [])
    assert imread(tmp_path / 'curves.png').ndim == 3


# Files


def test_file_holds_the_returned_picture_and_no_other_file_stays(tmp_path):
    maps = random_maps((39, 39))
    picture = figures.attention_panels(tmp_path / 'a.png', **maps)
    np.testing.assert_array_equal(imread(tmp_path / 'a.png')[..., :3], picture)
    assert [file.name for file in tmp_path.iterdir()] == ['a.png']


def test_failed_write_leaves_the_old_file_and_nothing_else(monkeypatch, tmp_path):
    (tmp_path / 'a.png').write_bytes(b'old')

    def full_disk(partial, target):
        assert partial.exists()
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(files, 'publish', full_disk)
    with pytest.raises(OSError, match='No space'):
        figures.attention_panels(tmp_path / 'a.png', **random_maps((39, 39)))
    assert (tmp_path / 'a.png').read_bytes() == b'old'
    assert [file.name for file in tmp_path.iterdir()] == ['a.png']


def test_missing_folders_are_made(tmp_path):
    figures.training_curves(tmp_path / 'none' / 'curves.png', [])
    assert imread(tmp_path / 'none' / 'curves.png').ndim == 3


def test_pyplot_knows_of_no_figure(tmp_path):
    figures.training_curves(tmp_path / 'curves.png', list(records()))
    assert not _pylab_helpers.Gcf.figs
