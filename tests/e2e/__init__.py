"""Browser tests over the whole: a real server, a real trainer, a real Chromium."""
