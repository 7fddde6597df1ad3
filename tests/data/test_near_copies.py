"""Near copies: shots of one thing are found, and what only looks alike is not."""

import io

import numpy as np
import pytest
from PIL import Image

from oddsight.data.near_copies import near_copies, sketch
from textures import MATERIALS, texture


def recompressed(image, random):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=int(random.integers(60, 90)))
    return np.asarray(Image.open(buffer))


def moved(image, random):
    down, right = random.integers(0, 3, 2)
    return image[down : down + 93, right : right + 93]


CHANGES = {
    "noise": lambda image, random: np.clip(image + random.normal(0, 2, image.shape), 0, 255).astype(np.uint8),
    "brightness": lambda image, random: np.clip(image * random.uniform(0.8, 1.1), 0, 255).astype(np.uint8),
    "compression": recompressed,
    "shift": moved,
    "size": lambda image, random: np.asarray(Image.fromarray(image).resize((80, 80))),
}


def sizes(images):
    labels = near_copies([sketch(image) for image in images])
    return sorted(np.unique(labels, return_counts=True)[1].tolist())


@pytest.mark.parametrize("material", MATERIALS)
@pytest.mark.parametrize("change", CHANGES)
def test_shots_of_one_thing_form_a_group(material, change):
    random = np.random.default_rng(0)
    things = [texture(seed, material=material) for seed in range(7)]
    images = [CHANGES[change](thing, random) for thing in things for _ in range(5)]
    labels = near_copies([sketch(image) for image in images])
    np.testing.assert_array_equal(labels, np.repeat(np.arange(7) * 5, 5))


@pytest.mark.slow
@pytest.mark.parametrize("material", MATERIALS)
@pytest.mark.parametrize("count", [8, 60, 300])
def test_pieces_of_one_material_stand_alone(material, count):
    assert sizes([texture(seed, 64, 64, material=material) for seed in range(count)]) == [1] * count


def test_a_pair_among_others_is_found():
    random = np.random.default_rng(1)
    images = [texture(seed) for seed in range(30)]
    images.append(CHANGES["noise"](images[3], random))
    labels = near_copies([sketch(image) for image in images])
    assert labels.tolist() == [*range(30), 3]


def test_a_family_that_changes_little_by_little_is_no_group():
    """Waves of any phase: each is close to the next, and none is set apart."""
    random = np.random.default_rng(2)
    x = np.arange(64)[None, :, None]
    phases = random.uniform(0, 2 * np.pi, 60)
    waves = [120 + 40 * np.sin(x / 3 + phase) + random.normal(0, 8, (64, 64, 3)) for phase in phases]
    assert max(sizes([np.clip(wave, 0, 255).astype(np.uint8) for wave in waves])) <= 30


def test_copies_of_one_thing_alone_are_how_images_look():
    random = np.random.default_rng(3)
    image = texture(0)
    assert sizes([CHANGES["noise"](image, random) for _ in range(20)]) == [1] * 20


def test_flat_and_few_images():
    flat = [np.full((20, 30, 3), value, np.uint8) for value in (0, 40, 90, 91, 255)]
    assert sizes(flat) == [1] * 5
    assert near_copies([]).tolist() == []
    assert near_copies([sketch(flat[0])]).tolist() == [0]
    assert near_copies([sketch(flat[0]), sketch(flat[0])]).tolist() == [0, 1]


def test_the_order_of_images_does_not_matter():
    random = np.random.default_rng(4)
    images = [CHANGES["noise"](texture(seed), random) for seed in range(9) for _ in range(1 + seed % 3)]
    sketches = [sketch(image) for image in images]
    labels = near_copies(sketches)
    order = random.permutation(len(images))
    again = near_copies([sketches[at] for at in order])
    together = labels[order][:, None] == labels[order][None, :]
    np.testing.assert_array_equal(again[:, None] == again[None, :], together)
