"""Evaluation: what is measured on samples and splits, exactly defined."""
