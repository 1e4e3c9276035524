"""The database: declarative base, sessions and signals between processes."""
