"""Users, organisations and API keys: who is asking."""
