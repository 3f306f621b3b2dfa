"""Training of models: compile, the loop, where data comes from."""
