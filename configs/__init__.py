"""Settings of the victims; installed as `mimic3tf.configs`, so that a wheel carries the defaults."""
