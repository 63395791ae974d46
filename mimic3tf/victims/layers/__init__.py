"""The victims' own Keras layers. A module imports no other one of them (see `mimic3tf/__init__.py`)."""
