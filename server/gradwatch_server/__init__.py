"""The gradwatch server."""
