"""FFHQ from a folder of its pictures."""
