"""Analytic objects, pictures of them, and how far a model made from a picture is from the truth."""
