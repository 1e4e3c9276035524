"""Webhooks, callbacks, e-mail, and the outbox that a trigger on the events of jobs fills.

Needs PostgreSQL 18 for `uuidv7()`.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = '0007'
down_revision = '0006'
branch_labels = None
depends_on = None

# The owner's rights, since whoever writes an event need not be allowed to see webhooks. The first
# look is all that an event costs which nobody wants to be told of.
_QUEUE_DELIVERIES = """
CREATE FUNCTION queue_deliveries() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    PERFORM FROM jobs job WHERE job.id = NEW.job_id AND (
        job.callback_url IS NOT NULL
        OR EXISTS (
            SELECT FROM webhooks w WHERE w.user_id = job.user_id AND w.disabled_at IS NULL
        )
        OR EXISTS (
            SELECT FROM notification_preferences p
            WHERE p.user_id = job.user_id AND p.email <> 'off'
        )
    );
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    INSERT INTO deliveries (
        id, event_id, channel, type, occurred_at, organisation_id, user_id, job_id, webhook_id,
        url, destination, data
    )
    SELECT uuidv7(), event.id, target.channel, event.type, NEW.created_at, job.organisation_id,
        job.user_id, job.id, target.webhook_id, target.url,
        coalesce(substring(target.url FROM '^https?://([^/?]+)'), 'email'), to_jsonb(job)
    FROM jobs job
    CROSS JOIN (
        SELECT uuidv7() AS id,
            CASE NEW.type WHEN 'job.succeeded' THEN 'job.completed' ELSE NEW.type END AS type
    ) event
    CROSS JOIN LATERAL (
        SELECT 'webhook' AS channel, w.id AS webhook_id, w.url
        FROM webhooks w
        WHERE w.user_id = job.user_id AND w.disabled_at IS NULL AND event.type = ANY (w.events)
        UNION ALL
        SELECT 'callback', NULL, job.callback_url WHERE job.callback_url IS NOT NULL
        UNION ALL
        SELECT 'email', NULL, NULL
        FROM notification_preferences p
        JOIN users u ON u.id = p.user_id
        JOIN delivery_channels c ON c.name = 'email'
        WHERE p.user_id = job.user_id AND u.email IS NOT NULL AND (
            event.type = 'job.failed' AND p.email IN ('failures', 'all')
            OR event.type = 'job.completed' AND p.email = 'all'
        )
    ) target
    WHERE job.id = NEW.job_id;
    IF FOUND THEN
        PERFORM pg_notify('p3d_delivery_ready', '');
    END IF;
    RETURN NULL;
END $$
"""

_TRIGGER = """
CREATE TRIGGER queue_deliveries AFTER INSERT ON job_events FOR EACH ROW
WHEN (NEW.type IN ('job.created', 'job.started', 'job.succeeded', 'job.failed', 'job.cancelled'))
EXECUTE FUNCTION queue_deliveries()
"""


def upgrade() -> None:
    """Apply the change."""
    # Fail rather than make everybody wait behind a lock that cannot be had.
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute('SELECT uuidv7()')
    op.create_table('webhooks',
    sa.Column('id', sa.Uuid(), nullable=False),
    sa.Column('organisation_id', sa.Uuid(), nullable=False),
    sa.Column('user_id', sa.Uuid(), nullable=False),
    sa.Column('url', sa.Text(), nullable=False),
    sa.Column('events', postgresql.ARRAY(sa.Text()), nullable=False),
    sa.Column('description', sa.Text(), server_default=sa.text("''"), nullable=False),
    sa.Column('secret_version', sa.Integer(), server_default=sa.text('1'), nullable=False),
    sa.Column('secret_rotated_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('failures', sa.Integer(), server_default=sa.text('0'), nullable=False),
    sa.Column('failing_since', sa.DateTime(timezone=True), nullable=True),
    sa.Column('disabled_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('disabled_reason', sa.Text(), nullable=True),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.ForeignKeyConstraint(['organisation_id'], ['organisations.id'], name=op.f('fk_webhooks_organisation_id')),
    sa.ForeignKeyConstraint(['user_id'], ['users.id'], name=op.f('fk_webhooks_user_id'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_webhooks'))
    )
    op.create_index(op.f('ix_webhooks_organisation_id'), 'webhooks', ['organisation_id'], unique=False)
    op.create_index(op.f('ix_webhooks_user_id'), 'webhooks', ['user_id'], unique=False)
    op.create_table('notification_preferences',
    sa.Column('user_id', sa.Uuid(), nullable=False),
    sa.Column('email', sa.Text(), server_default=sa.text("'off'"), nullable=False),
    sa.Column('secret_version', sa.Integer(), server_default=sa.text('1'), nullable=False),
    sa.Column('secret_rotated_at', sa.DateTime(timezone=True), nullable=True),
    sa.CheckConstraint("email IN ('off', 'failures', 'all')", name=op.f('ck_notification_preferences_email')),
    sa.ForeignKeyConstraint(['user_id'], ['users.id'], name=op.f('fk_notification_preferences_user_id'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('user_id', name=op.f('pk_notification_preferences'))
    )
    op.create_table('delivery_channels',
    sa.Column('name', sa.Text(), nullable=False),
    sa.PrimaryKeyConstraint('name', name=op.f('pk_delivery_channels'))
    )
    op.create_table('deliveries',
    sa.Column('id', sa.Uuid(), nullable=False),
    sa.Column('event_id', sa.Uuid(), nullable=False),
    sa.Column('channel', sa.Text(), nullable=False),
    sa.Column('type', sa.Text(), nullable=False),
    sa.Column('occurred_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('organisation_id', sa.Uuid(), nullable=False),
    sa.Column('user_id', sa.Uuid(), nullable=False),
    sa.Column('job_id', sa.Uuid(), nullable=True),
    sa.Column('webhook_id', sa.Uuid(), nullable=True),
    sa.Column('url', sa.Text(), nullable=True),
    sa.Column('destination', sa.Text(), nullable=False),
    sa.Column('data', postgresql.JSONB(astext_type=sa.Text()), nullable=False),
    sa.Column('status', sa.Text(), server_default=sa.text("'PENDING'"), nullable=False),
    sa.Column('attempts', sa.SmallInteger(), server_default=sa.text('0'), nullable=False),
    sa.Column('tries_left', sa.SmallInteger(), server_default=sa.text('8'), nullable=False),
    sa.Column('due_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('tried_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('finished_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('answer_status', sa.SmallInteger(), nullable=True),
    sa.Column('answer_start', sa.Text(), nullable=True),
    sa.Column('error', sa.Text(), nullable=True),
    sa.CheckConstraint("(channel = 'email') = (url IS NULL)", name=op.f('ck_deliveries_url')),
    sa.CheckConstraint("(channel = 'webhook') = (webhook_id IS NOT NULL)", name=op.f('ck_deliveries_webhook_id')),
    sa.CheckConstraint("(status = 'PENDING') = (finished_at IS NULL)", name=op.f('ck_deliveries_finished_at')),
    sa.CheckConstraint("channel IN ('webhook', 'callback', 'email')", name=op.f('ck_deliveries_channel')),
    sa.CheckConstraint("status IN ('PENDING', 'DELIVERED', 'FAILED')", name=op.f('ck_deliveries_status')),
    sa.ForeignKeyConstraint(['job_id'], ['jobs.id'], name=op.f('fk_deliveries_job_id'), ondelete='CASCADE'),
    sa.ForeignKeyConstraint(['organisation_id'], ['organisations.id'], name=op.f('fk_deliveries_organisation_id')),
    sa.ForeignKeyConstraint(['user_id'], ['users.id'], name=op.f('fk_deliveries_user_id'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_deliveries'))
    )
    op.create_index('ix_deliveries_waiting', 'deliveries', ['destination', 'due_at'], unique=False, postgresql_where=sa.text("status = 'PENDING'"))
    op.create_index('ix_deliveries_webhook_id_id', 'deliveries', ['webhook_id', sa.literal_column('id DESC')], unique=False)
    op.create_index('ix_deliveries_user_id_id', 'deliveries', ['user_id', sa.literal_column('id DESC')], unique=False)
    op.create_index('ix_deliveries_job_id', 'deliveries', ['job_id'], unique=False)
    op.create_index('ix_deliveries_occurred_at', 'deliveries', ['occurred_at'], unique=False)
    op.add_column('jobs', sa.Column('callback_url', sa.Text(), nullable=True))
    op.execute(_QUEUE_DELIVERIES)
    op.execute(_TRIGGER)


def downgrade() -> None:
    """Take the change back."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute('DROP TRIGGER queue_deliveries ON job_events')
    op.execute('DROP FUNCTION queue_deliveries()')
    op.drop_column('jobs', 'callback_url')
    op.drop_table('deliveries')
    op.drop_table('delivery_channels')
    op.drop_table('notification_preferences')
    op.drop_table('webhooks')
