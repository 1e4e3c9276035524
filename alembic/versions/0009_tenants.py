"""Row-level security: a request sees the rows of its own organisation only.

Needs a user that may create roles, or a superuser, unless the role is there already.
"""

from alembic import op

revision = '0009'
down_revision = '0008'
branch_labels = None
depends_on = None

ROLE = 'pipeline3d_tenant'
OF_JOB = 'EXISTS (SELECT FROM jobs WHERE jobs.id = {}.job_id)'
OF_USER = 'EXISTS (SELECT FROM users WHERE users.id = {}.user_id)'
# Which rows are the tenant's, and which it may write.
POLICIES = [
    ('organisations', 'id = current_tenant()', 'id = current_tenant()'),
    ('users', 'organisation_id = current_tenant()', 'organisation_id = current_tenant()'),
    ('jobs', 'organisation_id = current_tenant()', 'organisation_id = current_tenant()'),
    ('api_keys', OF_USER, OF_USER),
    ('upload_tickets', OF_USER, OF_USER),
    ('user_queue', OF_USER, OF_USER),
    ('attempts', OF_JOB, OF_JOB),
    # Written by the statement that writes the job, which they cannot see then.
    ('artifacts', OF_JOB, 'true'),
    ('job_events', OF_JOB, 'true'),
]
SHARED = ['api_processes', 'models', 'workers']


def upgrade() -> None:
    """Apply the change."""
    # Fail rather than make everybody wait behind a lock that cannot be had.
    op.execute("SET LOCAL lock_timeout = '5s'")
    # Roles belong to all databases of a server; another one may be making it just now.
    op.execute(f"""
        DO $$ BEGIN
            IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{ROLE}') THEN
                CREATE ROLE {ROLE} NOLOGIN;
            END IF;
            GRANT {ROLE} TO CURRENT_USER;
        EXCEPTION
            WHEN duplicate_object OR unique_violation THEN
                GRANT {ROLE} TO CURRENT_USER;
            WHEN insufficient_privilege THEN
                RAISE EXCEPTION 'The role {ROLE} is missing, and this user may not make it.'
                    USING HINT = 'As a superuser: CREATE ROLE {ROLE} NOLOGIN; '
                        'GRANT {ROLE} TO ' || quote_ident(CURRENT_USER);
        END $$
    """)
    op.execute(f'GRANT USAGE ON SCHEMA public TO {ROLE}')
    op.execute(f'GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {ROLE}')
    op.execute("""
        CREATE FUNCTION current_tenant() RETURNS uuid STABLE PARALLEL SAFE LANGUAGE sql
        RETURN nullif(current_setting('app.organisation', true), '')::uuid
    """)
    for table in SHARED:
        op.execute(f'GRANT SELECT ON {table} TO {ROLE}')
    for table, seen, written in POLICIES:
        op.execute(f'GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO {ROLE}')
        op.execute(f'ALTER TABLE {table} ENABLE ROW LEVEL SECURITY')
        op.execute(
            f'CREATE POLICY tenant ON {table} TO {ROLE}'
            f' USING ({seen.format(table)}) WITH CHECK ({written.format(table)})'
        )


def downgrade() -> None:
    """Take the change back; the role may be in use by another database."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    for table, _, _ in POLICIES:
        op.execute(f'DROP POLICY tenant ON {table}')
        op.execute(f'ALTER TABLE {table} DISABLE ROW LEVEL SECURITY')
    for table in [*(table for table, _, _ in POLICIES), *SHARED]:
        op.execute(f'REVOKE ALL ON {table} FROM {ROLE}')
    op.execute('DROP FUNCTION current_tenant()')
    op.execute(f'REVOKE USAGE ON ALL SEQUENCES IN SCHEMA public FROM {ROLE}')
    op.execute(f'REVOKE USAGE ON SCHEMA public FROM {ROLE}')
