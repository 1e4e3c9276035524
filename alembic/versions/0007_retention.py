"""An organisation may say how long the files of its jobs are kept."""

import sqlalchemy as sa
from alembic import op

revision = '0007'
down_revision = '0002'
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply the change."""
    # Fail rather than make everybody wait behind a lock that cannot be had.
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.add_column('organisations', sa.Column('retention_days', sa.Integer(), nullable=True))
    op.create_check_constraint(
        op.f('ck_organisations_retention_days'), 'organisations', 'retention_days >= 1'
    )


def downgrade() -> None:
    """Take the change back."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.drop_constraint(op.f('ck_organisations_retention_days'), 'organisations', type_='check')
    op.drop_column('organisations', 'retention_days')
