"""Can somebody who poisons a few percent of your ICU training data decide what your model says?"""

__version__ = "0.1.0"
