"""VQGAN (Esser et al. 2021): learned codes for images, and priors over them."""
