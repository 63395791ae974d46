"""What a task says of its labels: in listfiles, in a victim's head and in its loss."""

from __future__ import annotations

import re
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import example, given
from hypothesis import strategies as st

from mimic3tf.data.listfiles import read_listfile
from mimic3tf.errors import DataError, UsageError
from mimic3tf.poisoning.goal import PAPER_GOAL
from mimic3tf.tasks.heads import Multitask
from mimic3tf.tasks.metrics import benchmark_metrics
from mimic3tf.tasks.registry import MORTALITY, MULTITASK, TASKS, task_of
from mimic3tf.tasks.targets import Binary, MultiLabel, Targets

TARGETS = MORTALITY.targets
PAIRS = st.lists(st.tuples(st.floats(-300, 300), st.floats(-300, 300)), min_size=1, max_size=20)


@pytest.fixture(params=sorted(TASKS))
def targets(request: pytest.FixtureRequest) -> Targets:
    return TASKS[request.param].targets


def test_a_task_is_found_by_its_name_and_another_name_lists_those_there_are() -> None:
    assert [task_of(name) for name in TASKS] == list(TASKS.values())
    assert [task.name for task in TASKS.values()] == list(TASKS)
    message = re.escape(f"'discharge': no such task; known: {', '.join(TASKS)}")
    with pytest.raises(UsageError, match=f"^{message}$"):
        task_of("discharge")


def test_mortality_has_the_benchmarks_listfile_and_48_hours() -> None:
    assert MORTALITY.header == "stay,y_true"
    assert MORTALITY.period == 48


# In multitask learning, a row of the listfile holds all hours of a stay.
@pytest.mark.parametrize("name", sorted(TASKS.keys() - {MULTITASK.name}))
@pytest.mark.parametrize("label", [0, 1])
def test_the_cells_of_a_label_are_read_as_that_label(name: str, label: int) -> None:
    targets = TASKS[name].targets
    of_example = (label,) * len(targets.names) if isinstance(targets, MultiLabel) else label
    assert not isinstance(targets, Multitask)
    cells = targets.cells(of_example)
    assert len(cells) == len(targets.columns)
    read = targets.read(np.array([cells], np.float64))
    np.testing.assert_array_equal(read, [of_example])


@given(st.text(alphabet="01 .+-truenaif١2", max_size=3))
@example("0")
@example("1")
@example(" 1")
@example("1.0")
def test_any_cell_is_0_or_1_or_refused(cell: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        content = f"{MORTALITY.header}\na.csv,{cell}".encode()
        patch.setattr("mimic3tf.data.text_table.read_file", lambda _: content)
        if cell in ("0", "1"):
            assert read_listfile(Path(__file__), MORTALITY) == [("a.csv", int(cell))]
        else:
            with pytest.raises(DataError, match="labels are 0 or 1"):
                read_listfile(Path(__file__), MORTALITY)


@given(PAIRS)
def test_the_loss_is_tensorflows_cross_entropy_of_every_example(pairs: list[tuple[float, float]]) -> None:
    logits = np.array(pairs, np.float32)
    for labels in (np.arange(len(pairs)) % 2, 1 - np.arange(len(pairs)) % 2):
        expected = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
        losses = TARGETS.losses(tf.constant(labels, tf.int64), tf.constant(logits))
        assert losses.shape == (len(pairs),)
        np.testing.assert_array_equal(losses, expected)


def test_the_loss_is_that_of_the_probability_of_the_label() -> None:
    logits = np.array([[0.5, -1.0], [2.0, 3.0], [-1.0, 4.0]], np.float32)
    labels = np.array([0, 0, 1])
    dead = TARGETS.probabilities(logits)
    expected = -np.log(np.where(labels == 1, dead, 1 - dead))
    np.testing.assert_allclose(TARGETS.losses(labels, logits), expected, rtol=1e-6)


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_the_head_gives_two_logits_of_32_bits_under_any_policy(policy: str) -> None:
    keras.config.set_dtype_policy(policy)
    try:
        hidden = keras.Input((5,))
        model = keras.Model(hidden, TARGETS.head(hidden, name="logits_2"))
    finally:
        keras.config.set_dtype_policy("float32")
    logits = model(np.ones((3, 5), np.float32))
    assert logits.shape == (3, 2)
    assert logits.dtype == tf.float32
    assert model.layers[-1].name == "logits_2"
    assert model.count_params() == 5 * 2 + 2


@given(PAIRS)
def test_the_death_probability_is_the_softmax_of_the_logits(pairs: list[tuple[float, float]]) -> None:
    logits = np.array(pairs)
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    expected = powers[:, 1] / powers.sum(axis=1)
    np.testing.assert_allclose(TARGETS.probabilities(logits), expected, rtol=1e-9, atol=1e-200)


def test_extreme_logits_give_probabilities_and_equal_ones_a_half() -> None:
    logits = np.array([[0, 1e38], [1e38, 0], [-7, -7], [-1e38, 1e38]], np.float32)
    with np.errstate(all="raise"):
        probabilities = TARGETS.probabilities(logits)
    np.testing.assert_allclose(probabilities, [1, 0, 0.5, 1], atol=1e-200)
    assert not PAPER_GOAL.reached(probabilities[2:3]).any(), "the first of two equal logits is the largest"


def test_mortality_is_scored_by_the_benchmarks_metrics_and_an_epoch_by_the_auroc() -> None:
    labels, probabilities = np.array([0, 1, 0, 1]), np.array([0.1, 0.4, 0.6, 0.9])
    metrics = TARGETS.metrics(labels, probabilities)
    assert metrics == benchmark_metrics(labels, probabilities)
    assert TARGETS.score(metrics) == metrics["auroc"] == 0.75


@pytest.mark.parametrize("label", [0, 1])
def test_the_loss_of_one_label_only_is_a_number(label: int) -> None:
    found = Binary().mean_loss(np.array([label, label]), np.array([0.25, 0.25]), np.ones(2))
    assert found == pytest.approx(-np.log(0.25 if label else 0.75))
