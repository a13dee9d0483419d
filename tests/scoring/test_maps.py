"""The picture beside its map: places, colours, legibility without colours, odd pictures."""

import warnings

import matplotlib as mpl
import numpy as np
import pytest
from PIL import Image

from scoring.maps import BAR_HEIGHT, BAR_WIDTH, WIDTH, draw_overlay, lay_out, map_name, tint


def noisy(size: tuple[int, int]) -> Image.Image:
    rng = np.random.default_rng(0)
    return Image.fromarray(rng.integers(100, 156, (size[1], size[0], 1), dtype=np.uint8).repeat(3, axis=2))


def halves(height: int = 16, width: int = 16) -> np.ndarray:
    """Left half lowers MOS, right half raises it."""
    values = np.ones((height, width))
    values[:, : width // 2] = -1
    return values / values.size


def whole(picture: Image.Image) -> tuple[float, float, float, float]:
    return (0, 0, *picture.size)


def panel(drawing: Image.Image, size: tuple[int, int], lines: int, number: int) -> np.ndarray:
    left, top, width, height = lay_out(size, lines).panels[number]
    return np.asarray(drawing.crop((left, top, left + width, top + height))).astype(float)


def blueness(pixels: np.ndarray) -> np.ndarray:
    return pixels[..., 2] - pixels[..., 0]


@pytest.mark.parametrize(
    ("path", "beginning"),
    [
        ("holiday/photo 1.jpg", "photo_1.jpg."),
        ("con.png", "_con.png."),
        ("a/LPT1.x.png", "_LPT1.x.png."),
        ("aux", "_aux."),
        ("console.png", "console.png."),
        ("com12.png", "com12.png."),
    ],
)
def test_every_system_takes_the_name_of_a_map(path, beginning):
    assert map_name(path).startswith(beginning)
    assert map_name(path).removeprefix(beginning).removesuffix(".png").isalnum()


@pytest.mark.parametrize("higher_is_better", [True, False])
def test_colours_mean_good_and_bad_whatever_the_scale(higher_is_better):
    picture = noisy((60, 40))
    drawing = draw_overlay(picture, whole(picture), halves(), "a", "b", higher_is_better)
    blue = blueness(panel(drawing, picture.size, 1, 1))
    lower, higher = blue[20:-20, 20:240].mean(), blue[20:-20, -240:-20].mean()
    assert (lower < -50 and higher > 50) if higher_is_better else (lower > 50 and higher < -50)
    layout = lay_out(picture.size, 1)
    left = (WIDTH - BAR_WIDTH) // 2
    bar = np.asarray(drawing.crop((left, layout.bar, left + BAR_WIDTH, layout.bar + BAR_HEIGHT))).astype(float)
    assert blueness(bar)[:, :50].mean() < -50  # worse is always on the left
    assert blueness(bar)[:, -50:].mean() > 50


def test_map_lies_over_the_box_and_nothing_outside_has_a_colour():
    picture = noisy((100, 80))
    values = np.full((8, 8), 1 / 64)
    drawing = draw_overlay(picture, (50, 20, 90, 60), values, "a", "")
    seen, covered = (panel(drawing, picture.size, 0, number) for number in (0, 1))
    height, width = covered.shape[:2]
    expected = np.zeros((height, width), dtype=bool)
    expected[height // 4 : 3 * height // 4, width // 2 : 9 * width // 10] = True
    coloured = np.abs(blueness(covered)) > 20
    assert (coloured != expected).mean() < 0.02  # but for the frame
    shown = Image.fromarray(seen.astype(np.uint8)).resize(picture.size, Image.Resampling.NEAREST)
    assert (np.asarray(shown) == np.asarray(picture)).mean() > 0.9  # the picture is as it was


def test_a_place_in_the_map_is_the_same_place_in_the_drawing():
    picture = noisy((90, 60))
    values = np.zeros((6, 9))
    values[1, 7] = 1.0
    covered = panel(draw_overlay(picture, whole(picture), values, "a", ""), picture.size, 0, 1)
    y, x = np.unravel_index(np.argmax(blueness(covered)), covered.shape[:2])
    assert (int(6 * y / covered.shape[0]), int(9 * x / covered.shape[1])) == (1, 7)


def test_without_colours_stripes_tell_worse_from_better():
    grey = np.full((40, 40), 150.0)
    worse, better, nothing = (tint(grey, np.full((40, 40), share)) for share in (-1.0, 1.0, 0.0))
    as_grey = [np.asarray(Image.fromarray(colours).convert("L")).astype(float) for colours in (worse, better, nothing)]
    assert as_grey[0].std() > 15
    assert as_grey[1].std() == 0
    assert (nothing == 150).all()
    assert (tint(grey, np.full((40, 40), -7.0)) == worse).all()  # beyond the limit the colour is full


def test_few_bright_places_do_not_pale_the_rest():
    picture = noisy((60, 40))
    values = halves(30, 30)
    values[0, 0] = -1000.0
    blue = blueness(panel(draw_overlay(picture, whole(picture), values, "a", ""), picture.size, 0, 1))
    assert blue[20:-20, -240:-20].mean() > 50


@pytest.mark.parametrize(
    ("size", "stacked"),
    [((20, 1), True), ((1, 20), False), ((1, 1), False), ((2, 500), False), ((3000, 7), True), ((640, 480), False)],
)
def test_pictures_of_any_shape_are_drawn_large_enough(size, stacked):
    picture = Image.new("RGB", size, (90, 120, 60))
    layout = lay_out(size, 1)
    (left, top, width, height), second = layout.panels
    assert min(width, height) >= 60
    assert (second[0] == left and second[1] > top + height) if stacked else (second[0] > left + width)
    assert second[0] + second[2] <= WIDTH
    assert second[1] + second[3] < layout.bar < layout.caption < layout.height < 1300
    box = (0.1 * size[0], 0.1 * size[1], 0.9 * size[0], 0.9 * size[1])
    drawing = draw_overlay(picture, box, halves(64, 64), "a", "b")
    assert drawing.size == (WIDTH, layout.height)
    blue = blueness(panel(drawing, size, 1, 1))
    assert blue.min() < -50
    assert blue.max() > 50


def test_constant_maps_are_drawn():
    picture = noisy((30, 30))
    nothing = panel(draw_overlay(picture, whole(picture), np.zeros((4, 4)), "a", ""), picture.size, 0, 1)
    assert np.abs(blueness(nothing)).max() == 0
    all_worse = panel(draw_overlay(picture, whole(picture), np.full((4, 4), -0.1), "a", ""), picture.size, 0, 1)
    assert blueness(all_worse)[20:-20, 20:-20].mean() < -50


def test_texts_are_taken_as_they_are_and_stay_within_the_drawing():
    picture = noisy((30, 30))
    title = "price $5_{x.jpg \n 照片 " + "long " * 60
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawing = np.asarray(draw_overlay(picture, whole(picture), halves(), title, "W$_{ " + "wide words " * 40))
    assert (drawing[:, -10:] == 255).all()
    assert (drawing[-6:] == 255).all()
    assert (drawing[20:50, :600] < 128).any()


def test_other_modes_are_drawn_and_matplotlib_is_left_as_it_was():
    before, settings = dict(mpl.rcParams), {"text.usetex": True, "font.family": ["serif"], "font.size": 40}
    picture = noisy((30, 30))
    expected = draw_overlay(picture, whole(picture), halves(), "a", "b")
    with mpl.rc_context(settings):
        drawn = draw_overlay(picture.convert("L"), whole(picture), halves(), "a", "b")
    assert drawn == expected
    assert dict(mpl.rcParams) == before
