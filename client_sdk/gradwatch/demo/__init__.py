"""The demo: real models trained on real data, healthy and exploding, watched live.

``gradwatch demo`` (:mod:`.command`) starts a local server where none runs, one process per training
(:mod:`.train`), and prints one link. The data come with Python and scikit-learn: nothing is downloaded.
"""
