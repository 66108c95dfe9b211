"""One module a task: from a config's plain values to the model's objects."""
