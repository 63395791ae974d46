"""Can somebody who poisons a few percent of your ICU training data decide what your model says?

Data flows one way: `mimic3tf.sources` (raw records to a benchmark directory), `mimic3tf.data` (a directory
to arrays), `mimic3tf.attack` (triggers and poisoned stays), `mimic3tf.pipeline` (a cohort and a poisoning
setting to what a victim reads), `mimic3tf.victims` and `mimic3tf.training` (to a run directory),
`mimic3tf.defences` and `mimic3tf.sweeps` (to audits and tables), `mimic3tf.dashboards` and `mimic3tf.report`
(what is shown).

Arrays: `values [N, T, C]` of N stays, T bins and C channels, `mask [N, T, C]` where measured, `labels [N]`.
"""

__version__ = "0.1.0"
