"""Artifacts that are uploaded in parts while they are being made."""

import sqlalchemy as sa
from alembic import op

revision = '0003'
down_revision = '0002'
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply the change."""
    # Fail rather than make everybody wait behind a lock that cannot be had.
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.add_column('upload_tickets', sa.Column('streamed', sa.Boolean(), server_default=sa.text('false'), nullable=False))
    op.add_column('upload_tickets', sa.Column('upload_id', sa.Text(), nullable=True))
    op.create_index('ix_upload_tickets_upload_id', 'upload_tickets', ['attempt_id'], unique=False, postgresql_where=sa.text('upload_id IS NOT NULL'))


def downgrade() -> None:
    """Take the change back."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.drop_index('ix_upload_tickets_upload_id', table_name='upload_tickets', postgresql_where=sa.text('upload_id IS NOT NULL'))
    op.drop_column('upload_tickets', 'upload_id')
    op.drop_column('upload_tickets', 'streamed')
