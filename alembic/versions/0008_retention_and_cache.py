"""An organisation's own retention; results that are used again."""

import sqlalchemy as sa
from alembic import op

revision = '0008'
down_revision = '0007'
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
    op.add_column('jobs', sa.Column('cache_key', sa.Text(), nullable=True))
    op.add_column('jobs', sa.Column('cached_from', sa.Uuid(), nullable=True))
    op.create_foreign_key(op.f('fk_jobs_cached_from'), 'jobs', 'jobs', ['cached_from'], ['id'])
    op.create_index(
        'ix_jobs_cache_key',
        'jobs',
        ['organisation_id', 'cache_key', sa.literal_column('completed_at DESC')],
        postgresql_where=sa.text("cache_key IS NOT NULL AND status = 'SUCCEEDED'"),
    )


def downgrade() -> None:
    """Take the change back."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.drop_index('ix_jobs_cache_key', table_name='jobs')
    op.drop_constraint(op.f('fk_jobs_cached_from'), 'jobs', type_='foreignkey')
    op.drop_column('jobs', 'cached_from')
    op.drop_column('jobs', 'cache_key')
    op.drop_constraint(op.f('ck_organisations_retention_days'), 'organisations', type_='check')
    op.drop_column('organisations', 'retention_days')
