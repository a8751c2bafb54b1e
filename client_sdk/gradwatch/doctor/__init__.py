"""``gradwatch doctor``: are the numbers right on this machine, in the settings that people train in? One row per setting."""
