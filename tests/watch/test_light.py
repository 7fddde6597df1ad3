import numpy as np

from oddsight.watch.light import LONGEST, Light, brightness

SCENE = np.random.default_rng(0).uniform(40, 160, (8, 8)).astype(np.float32)


def follow(grids, start=0.0):
    light = Light()
    return [
        (change, start + index / 10)
        for index, grid in enumerate(grids)
        if (change := light.update(start + index / 10, grid)) is not None
    ]


def test_a_switch_is_one_change_that_ends_when_the_scene_has_settled():
    (first, began), (second, ended) = follow([SCENE] * 50 + [SCENE * 0.4] * 50)
    assert (first, second) == ("new", "end")
    assert began == 5.0
    assert 1 <= ended - began <= 2


def test_both_ways_are_noticed_and_later_ones_too():
    changes = follow([SCENE] * 50 + [SCENE * 0.4] * 50 + [SCENE] * 50)
    assert [change for change, _ in changes] == ["new", "end"] * 2


def test_what_walks_through_or_dawns_is_no_switch():
    grids = []
    for index in range(100):
        grid = SCENE * (1 + index / 200)
        grid[:, index % 8] = 5
        grids.append(grid)
    assert follow(grids) == []


def test_a_light_that_flickers_is_one_change_of_limited_length():
    changes = follow([SCENE] * 30 + [SCENE * (0.4 if index % 7 < 3 else 1.5) for index in range(400)])
    assert [change for change, _ in changes] == ["new", "end"]
    assert abs(changes[1][1] - changes[0][1] - LONGEST) < 0.2


def test_brightness_is_that_of_the_places():
    pixels = np.zeros((16, 32, 3), np.uint8)
    pixels[:, 16:] = 200
    grid = brightness(pixels)
    assert grid.shape == (8, 8)
    assert (grid[:, :4] == 0).all()
    assert (grid[:, 4:] == 200).all()


def test_a_scene_that_always_changes_has_no_light_of_its_own():
    gains = np.exp(np.random.default_rng(1).normal(scale=0.06, size=600))
    assert follow([SCENE * gain for gain in gains]) == []
