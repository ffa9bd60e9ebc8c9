"""Pictures as arrays: what is where in them."""

import numpy as np

from jcl.training.pictures import by_distance, compared, similarities, tiled


def test_eight_images_in_a_row_and_the_rest_below():
    images = np.full((9, 2, 3), 0.5, np.float32)
    images[8] = 2.0  # beyond white
    sheet = tiled(images)
    assert sheet.shape == (4, 24, 3)
    assert (sheet[:2] == 128).all()
    assert (sheet[2:, :3] == 255).all()
    assert (sheet[2:, 3:] == 0).all()


def test_labels_and_predictions_stand_beside_the_slice():
    image = np.full((1, 2, 2), 0.5, np.float32)
    labels, found = np.zeros((1, 2, 2), int), np.zeros((1, 2, 2), int)
    labels[0, 0, 0], found[0, 1, 1] = 1, 2
    sheet = compared(image, labels, found)
    assert sheet.shape == (2, 6, 3)
    coloured = np.argwhere((sheet != 128).any(2)).tolist()
    assert coloured == [[0, 2], [1, 5]]
    assert sheet[0, 2, 0] > sheet[0, 2, 2]  # red, the first class
    assert sheet[1, 5, 2] > sheet[1, 5, 0]  # blue, the second


def test_means_by_difference_of_position_of_other_volumes_alone():
    positions, volumes = np.array([0.1, 0.1, 0.9]), [0, 1, 0]
    cosines = np.array([[1, 0.5, -0.9], [0.5, 1, -0.2], [-0.9, -0.2, 1]])
    assert by_distance(cosines, positions, volumes) == ([0.05, 0.85], [0.5, -0.2])
    picture = similarities(cosines, positions, volumes)
    assert picture.dtype == np.uint8
    assert picture.ndim == 3
