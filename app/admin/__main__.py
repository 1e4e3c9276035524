"""`python -m app.admin`: users, keys, organisations, dead letters, storage and the audit trail."""

import typer

from app.admin import audit, dead_letters, keys, organisations, storage, users

app = typer.Typer(
    name="python -m app.admin",
    help="Manage users, keys, organisations, dead letters, storage and the audit trail. Settings "
    "come from the environment and .env (see .env.example). What is changed is in the audit "
    "trail, and takes effect at once.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.add_typer(users.commands, name="users")
app.add_typer(keys.commands, name="keys")
app.add_typer(organisations.commands, name="organisations")
app.add_typer(dead_letters.commands, name="dead-letters")
app.add_typer(storage.commands, name="storage")
app.add_typer(audit.commands, name="audit")


def main() -> None:
    """Parse the command line and do what it says."""
    app()


if __name__ == "__main__":
    main()
