"""SUNDAE: step-unrolled denoising of codes (McKinney & Willcocks 2022)."""
