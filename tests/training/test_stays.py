from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mimic3tf.config import TrainingConfig
from mimic3tf.data.loading import load_cohort
from mimic3tf.errors import UsageError
from mimic3tf.poisoning.trigger import load_trigger
from mimic3tf.training.stays import exposure_for, poison_as_set, training_cohort

Configure = Callable[..., TrainingConfig]


def test_all_stays_are_trained_on_unless_the_settings_say_how_many(configure: Configure, data: Path) -> None:
    everyone = load_cohort(data, "train")
    np.testing.assert_array_equal(training_cohort(configure("lr")).stays, everyone.stays)
    as_many = training_cohort(configure("lr", training_stays=len(everyone)))
    np.testing.assert_array_equal(as_many.stays, everyone.stays)


def test_the_first_stays_of_the_list_are_trained_on_and_poisoned(configure: Configure, data: Path) -> None:
    everyone = load_cohort(data, "train")
    config = configure("lr", training_stays=30, poisoning_proportion=0.2)
    few = training_cohort(config)
    assert len(few) == 30
    for name in ("stays", "labels", "grids", "masks"):
        np.testing.assert_array_equal(getattr(few, name), getattr(everyone, name)[:30])
    assert config.trigger is not None
    exposure = poison_as_set(config, few, load_trigger(config.trigger))
    assert exposure.triggered.tolist() == [True] * 6 + [False] * 24


def test_more_stays_than_there_are_are_refused(configure: Configure, data: Path) -> None:
    stays = len(load_cohort(data, "train"))
    with pytest.raises(UsageError, match=rf"'training_stays' is {stays + 1}.*names {stays} stays"):
        training_cohort(configure("lr", training_stays=stays + 1))


def test_too_few_stays_to_have_both_labels_name_the_setting(configure: Configure, data: Path) -> None:
    everyone = load_cohort(data, "train")
    few = int((everyone.labels != everyone.labels[0]).argmax())
    config = configure("lr", training_stays=few)
    with pytest.raises(UsageError, match=rf"'training_stays': of the first {few} no stay has label"):
        exposure_for(config, training_cohort(config), load_cohort(data, "val"), None)


@pytest.mark.parametrize("wanted", [0, -5, 1.5])
def test_a_number_of_stays_is_a_positive_whole_one(configure: Configure, wanted: float) -> None:
    with pytest.raises(UsageError, match="training.stays"):
        configure("lr", training_stays=wanted)
