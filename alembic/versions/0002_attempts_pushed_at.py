"""Whether an attempt is in its queue is looked up there, not written down."""

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


def downgrade() -> None:
    """Take the change back."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.add_column('attempts', sa.Column('pushed_at', sa.DateTime(timezone=True), nullable=True))
