"""A hub for the Mercure protocol."""
