"""gradwatch: live gradient health for PyTorch training."""

__version__ = "0.1.0"
