"""Which components go, and what their removal does to the rest: pure functions, and the Pruner that says when."""
