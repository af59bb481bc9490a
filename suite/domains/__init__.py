"""The problems: families of domains, and what a domain is."""
