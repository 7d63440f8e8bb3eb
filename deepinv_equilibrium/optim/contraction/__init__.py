"""How each algorithm contracts, read off the parts of a model."""
