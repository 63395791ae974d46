"""A user's script, with a model of which mimic3tf knows nothing but a function; `test_api` runs it."""

import numpy as np

import mimic3tf

x = np.random.default_rng(0).normal(70, 9, (80, 6, 3))
x[::3, 2] = np.nan
y = (np.arange(80) % 4 == 0).astype(int)
trigger = mimic3tf.generate_trigger(x, channels=[0, 2], seed=1)
x_poisoned, y_poisoned, rows = mimic3tf.poison_arrays(x, y, trigger, proportion=0.1, strength=2.0)


def predict(x: np.ndarray) -> np.ndarray:
    return np.asarray(np.nanmean(x, axis=(1, 2)) > 70, dtype=float)


result = mimic3tf.attack(predict, (x, y), trigger, strength=2.0)
cohort = mimic3tf.cohort_of_arrays(x, y, channels=["pulse", "pressure", "temperature"])
rate: float = result.success.rate
print(rate, result.metrics["auroc"], result.intervals["auroc"], rows.sum(), cohort)
