"""Ceremonies on a real deployment, and rehearsals on one that is made for them and thrown away."""
