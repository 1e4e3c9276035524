"""What goes wrong when servers and services are started; the message is the sentence to print."""


class DevstackError(Exception):
    """Something on this machine stops the stack; the message says what, and what to do."""
