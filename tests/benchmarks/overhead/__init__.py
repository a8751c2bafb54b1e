"""What watching costs, beside its limit and beside other tools."""
