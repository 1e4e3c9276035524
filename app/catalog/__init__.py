"""The catalog of AI models: what can be asked for, with which parameters, within which limits."""
