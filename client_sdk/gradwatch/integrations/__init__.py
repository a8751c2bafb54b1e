"""Thin layers for training frameworks, one module for each; nothing here is imported by gradwatch itself."""
