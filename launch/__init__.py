"""Commands: the only place that knows every package; nobody imports it."""
