"""What users use is counted by triggers; quotas of single users and organisations.

Makes `attempts` anew to add the GPU-seconds, so it takes a while where there are many: stop API
and dispatchers, migrate, start.
"""

import sqlalchemy as sa
from alembic import op

revision = '0006'
down_revision = '0005'
branch_labels = None
depends_on = None

# Counted in a row that is locked by whoever changes it, so that a limit cannot be passed by two at
# the same time. Only what changes the count fires: most changes of a job's status do not.
_FUNCTIONS = {
    "make_user_usage": """
    BEGIN
        INSERT INTO user_usage (user_id) VALUES (NEW.id);
        RETURN NULL;
    END""",
    "count_new_jobs": """
    BEGIN
        UPDATE user_usage u SET queued_jobs = u.queued_jobs + added.jobs
        FROM (
            SELECT user_id, count(*) AS jobs FROM changed WHERE status = 'QUEUED' GROUP BY user_id
        ) added
        WHERE u.user_id = added.user_id;
        RETURN NULL;
    END""",
    "count_moved_job": """
    BEGIN
        UPDATE user_usage
        SET queued_jobs = queued_jobs + CASE NEW.status WHEN 'QUEUED' THEN 1 ELSE -1 END
        WHERE user_id = NEW.user_id;
        RETURN NULL;
    END""",
    "count_deleted_jobs": """
    BEGIN
        UPDATE user_usage u SET queued_jobs = u.queued_jobs - gone.jobs
        FROM (
            SELECT user_id, count(*) AS jobs FROM changed WHERE status = 'QUEUED' GROUP BY user_id
        ) gone
        WHERE u.user_id = gone.user_id;
        RETURN NULL;
    END""",
    "count_no_jobs": """
    BEGIN
        UPDATE user_usage SET queued_jobs = 0 WHERE queued_jobs <> 0;
        RETURN NULL;
    END""",
    "count_ticket": """
    BEGIN
        UPDATE user_usage SET storage_bytes = storage_bytes + coalesce(NEW.size_bytes, 0)
            - CASE TG_OP WHEN 'UPDATE' THEN coalesce(OLD.size_bytes, 0) ELSE 0 END
        WHERE user_id = NEW.user_id;
        RETURN NULL;
    END""",
    "count_deleted_tickets": """
    BEGIN
        PERFORM FROM user_usage WHERE user_id IN (SELECT user_id FROM changed)
            ORDER BY user_id FOR UPDATE;
        UPDATE user_usage u SET storage_bytes = u.storage_bytes - gone.bytes
        FROM (SELECT user_id, sum(size_bytes) AS bytes FROM changed GROUP BY user_id) gone
        WHERE u.user_id = gone.user_id AND gone.bytes > 0;
        RETURN NULL;
    END""",
    "count_no_tickets": """
    BEGIN
        UPDATE user_usage SET storage_bytes = 0 WHERE storage_bytes <> 0;
        RETURN NULL;
    END""",
    "count_gpu_seconds": """
    BEGIN
        INSERT INTO gpu_usage AS g (user_id, month, seconds)
        SELECT user_id, date_trunc('month', NEW.finished_at AT TIME ZONE 'UTC')::date,
            NEW.gpu_seconds
        FROM jobs WHERE id = NEW.job_id
        ON CONFLICT (user_id, month) DO UPDATE SET seconds = g.seconds + excluded.seconds;
        RETURN NULL;
    END""",
}
_TRIGGERS = {
    ("make_user_usage", "users"): "AFTER INSERT ON users FOR EACH ROW",
    ("count_new_jobs", "jobs"): (
        "AFTER INSERT ON jobs REFERENCING NEW TABLE AS changed FOR EACH STATEMENT"
    ),
    ("count_moved_job", "jobs"): (
        "AFTER UPDATE OF status ON jobs FOR EACH ROW "
        "WHEN ((OLD.status = 'QUEUED') <> (NEW.status = 'QUEUED'))"
    ),
    ("count_deleted_jobs", "jobs"): (
        "AFTER DELETE ON jobs REFERENCING OLD TABLE AS changed FOR EACH STATEMENT"
    ),
    ("count_no_jobs", "jobs"): "AFTER TRUNCATE ON jobs FOR EACH STATEMENT",
    ("count_new_ticket", "upload_tickets"): (
        "AFTER INSERT ON upload_tickets FOR EACH ROW WHEN (NEW.size_bytes > 0)"
    ),
    ("count_resized_ticket", "upload_tickets"): (
        "AFTER UPDATE OF size_bytes ON upload_tickets FOR EACH ROW "
        "WHEN (OLD.size_bytes IS DISTINCT FROM NEW.size_bytes)"
    ),
    ("count_deleted_tickets", "upload_tickets"): (
        "AFTER DELETE ON upload_tickets REFERENCING OLD TABLE AS changed FOR EACH STATEMENT"
    ),
    ("count_no_tickets", "upload_tickets"): "AFTER TRUNCATE ON upload_tickets FOR EACH STATEMENT",
}
# At the commit, after all other locks: whoever ends an attempt holds some of them in another order.
_GPU_TRIGGER = """
CREATE CONSTRAINT TRIGGER count_gpu_seconds AFTER UPDATE OF finished_at ON attempts
DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
WHEN (OLD.finished_at IS NULL AND NEW.gpu_seconds > 0) EXECUTE FUNCTION count_gpu_seconds()
"""
_FUNCTION_OF = {"count_new_ticket": "count_ticket", "count_resized_ticket": "count_ticket"}

_GPU_SECONDS = (
    "CASE WHEN starts_with(queue, 'gpu') AND status IN ('CANCELLED', 'FAILED', 'SUCCEEDED') "
    "THEN greatest(extract(epoch FROM finished_at - started_at), 0) ELSE 0 END"
)
_QUOTAS = (
    ('users', ('max_queued_jobs', 'max_storage_bytes', 'max_gpu_seconds')),
    (
        'organisations',
        ('max_active_jobs', 'max_queued_jobs', 'max_storage_bytes', 'max_gpu_seconds'),
    ),
)


def upgrade() -> None:
    """Apply the change."""
    # Fail rather than make everybody wait behind a lock that cannot be had.
    op.execute("SET LOCAL lock_timeout = '5s'")
    for table, columns in _QUOTAS:
        for column in columns:
            op.add_column(table, sa.Column(column, sa.BigInteger(), nullable=True))
    op.create_table('user_usage',
    sa.Column('user_id', sa.Uuid(), nullable=False),
    sa.Column('queued_jobs', sa.BigInteger(), server_default=sa.text('0'), nullable=False),
    sa.Column('storage_bytes', sa.BigInteger(), server_default=sa.text('0'), nullable=False),
    sa.ForeignKeyConstraint(['user_id'], ['users.id'], name=op.f('fk_user_usage_user_id'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('user_id', name=op.f('pk_user_usage'))
    )
    op.create_table('gpu_usage',
    sa.Column('user_id', sa.Uuid(), nullable=False),
    sa.Column('month', sa.Date(), nullable=False),
    sa.Column('seconds', sa.Double(), nullable=False),
    sa.ForeignKeyConstraint(['user_id'], ['users.id'], name=op.f('fk_gpu_usage_user_id'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('user_id', 'month', name=op.f('pk_gpu_usage'))
    )
    op.add_column('attempts', sa.Column('gpu_seconds', sa.Double(), sa.Computed(_GPU_SECONDS, persisted=True), nullable=True))
    op.create_index('ix_jobs_active_of_organisation', 'jobs', ['organisation_id'], unique=False, postgresql_where=sa.text('slot IS NOT NULL'))
    op.execute("""
        INSERT INTO user_usage (user_id, queued_jobs, storage_bytes)
        SELECT id, (SELECT count(*) FROM jobs WHERE user_id = users.id AND status = 'QUEUED'),
            (SELECT coalesce(sum(size_bytes), 0) FROM upload_tickets WHERE user_id = users.id)
        FROM users
    """)
    op.execute("""
        INSERT INTO gpu_usage (user_id, month, seconds)
        SELECT j.user_id, date_trunc('month', a.finished_at AT TIME ZONE 'UTC')::date,
            sum(a.gpu_seconds)
        FROM attempts a JOIN jobs j ON j.id = a.job_id WHERE a.gpu_seconds > 0 GROUP BY 1, 2
    """)
    for name, body in _FUNCTIONS.items():
        op.execute(f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $${body}$$")
    for (name, _), when in _TRIGGERS.items():
        op.execute(f"CREATE TRIGGER {name} {when} EXECUTE FUNCTION {_FUNCTION_OF.get(name, name)}()")
    op.execute(_GPU_TRIGGER)


def downgrade() -> None:
    """Take the change back."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("DROP TRIGGER count_gpu_seconds ON attempts")
    for name, table in _TRIGGERS:
        op.execute(f"DROP TRIGGER {name} ON {table}")
    for name in _FUNCTIONS:
        op.execute(f"DROP FUNCTION {name}()")
    op.drop_index('ix_jobs_active_of_organisation', table_name='jobs', postgresql_where=sa.text('slot IS NOT NULL'))
    op.drop_column('attempts', 'gpu_seconds')
    op.drop_table('gpu_usage')
    op.drop_table('user_usage')
    for table, columns in _QUOTAS:
        for column in columns:
            op.drop_column(table, column)
