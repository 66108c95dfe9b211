"""LSUN without tensorflow-io."""
