"""How many requests a minute one caller may send (docs/limits.md)."""
