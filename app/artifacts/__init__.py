"""Artifacts and the tickets to upload them."""
