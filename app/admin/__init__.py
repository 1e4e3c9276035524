"""What the platform's operator does from the shell: `python -m app.admin --help`."""
