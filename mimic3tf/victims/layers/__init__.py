"""The victims' own Keras layers. No module here imports another one (see `mimic3tf/__init__.py`)."""
