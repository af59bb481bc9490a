"""The paper's claims: the sweeps that test them, what came out, and a page that says so."""
