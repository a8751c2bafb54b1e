"""Alert rules: kinds (a table), state machine, engine, back-test. Pure: no clock, no storage, no logging."""
