"""Measures generated images: features, distances, files, reports."""
