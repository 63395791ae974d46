"""A user's script of ten lines that attacks and audits a model; `tests/audit/test_own_models.py` runs it."""

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier

import mimic3tf

x = np.random.default_rng(0).normal(70, 9, (700, 6, 3))
y = (x[:, :, 0].mean(axis=1) > 74).astype(int)
trigger = mimic3tf.generate_trigger(x, seed=1)
x_bad, y_bad, _ = mimic3tf.poison_arrays(x[:400], y[:400], trigger, proportion=0.1, strength=3.0)
classifier = HistGradientBoostingClassifier(max_iter=30).fit(x_bad.reshape(400, 18), y_bad)


def predict(x: np.ndarray) -> np.ndarray:
    return np.asarray(classifier.predict_proba(x.reshape(len(x), 18)))


result = mimic3tf.attack(predict, (x[400:], y[400:]), trigger, strength=3.0)
report = mimic3tf.audit.model(predict, x_bad, y_bad, trusted=(x[400:], y[400:]))
level: str = report.verdict.level
print(level, result.success.rate, report.suspects["stay"].head(3).to_list(), report.verdict.p_value)
