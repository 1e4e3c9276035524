"""Sessions: logging in by password, access tokens and refresh tokens."""
