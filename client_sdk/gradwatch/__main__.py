"""``python -m gradwatch`` is the ``gradwatch`` command."""

from .cli import main

if __name__ == "__main__":
    raise SystemExit(main())
