"""A job may reproduce another; whether an attempt is in its queue is looked up there.

Processes of the version before know `attempts.pushed_at`: stop API and dispatchers, migrate, start.
"""

import sqlalchemy as sa
from alembic import op

revision = '0002'
down_revision = '0001'
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply the change."""
    # Fail rather than make everybody wait behind a lock that cannot be had.
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.drop_column('attempts', 'pushed_at')
    op.add_column('jobs', sa.Column('reproduces', sa.Uuid(), nullable=True))
    op.create_foreign_key(op.f('fk_jobs_reproduces'), 'jobs', 'jobs', ['reproduces'], ['id'])


def downgrade() -> None:
    """Take the change back."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.drop_constraint(op.f('fk_jobs_reproduces'), 'jobs', type_='foreignkey')
    op.drop_column('jobs', 'reproduces')
    op.add_column('attempts', sa.Column('pushed_at', sa.DateTime(timezone=True), nullable=True))
