"""The detectors, by what they look at. Each is a small dataclass (its fields are its state) with one method, ``look``."""
