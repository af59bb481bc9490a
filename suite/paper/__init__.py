"""The paper's claims: the sweeps that test them, a verdict and a figure for each, and a page."""
