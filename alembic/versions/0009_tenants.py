"""Row-level security: a request sees the rows of its own organisation only.

Needs a user that may create roles, or a superuser, unless the role is there already.
"""

from alembic import op

revision = '0009'
down_revision = '0008'
branch_labels = None
depends_on = None

ROLE = 'pipeline3d_tenant'
OWN = 'organisation_id = current_tenant()'
OF_JOB = 'is_own_job(job_id)'
OF_USER = 'is_own_user(user_id)'
# The keys of GPU machines are nobody's own; who runs the platform makes them.
WORKER_KEY = " OR kind = 'worker' AND EXISTS (SELECT FROM organisations WHERE runs_platform)"
# Which rows are the tenant's, and which it may write where that differs.
POLICIES = [
    ('organisations', 'id = current_tenant()', None),
    ('users', OWN, None),
    ('jobs', OWN, None),
    ('audit_events', OWN, None),
    ('deliveries', OWN, None),
    ('webhooks', OWN, None),
    ('api_keys', OF_USER + WORKER_KEY, None),
    ('gpu_usage', OF_USER, None),
    ('notification_preferences', OF_USER, None),
    ('sessions', OF_USER, None),
    ('upload_tickets', OF_USER, None),
    ('user_queue', OF_USER, None),
    ('user_usage', OF_USER, None),
    ('refresh_tokens', 'EXISTS (SELECT FROM sessions WHERE sessions.id = refresh_tokens.session_id)', None),
    ('attempts', OF_JOB, None),
    # Written by the statement that writes the job, which they cannot see then.
    ('artifacts', OF_JOB, 'true'),
    ('job_events', OF_JOB, 'true'),
]
APPEND_ONLY = {'audit_events'}
SHARED = ['api_processes', 'delivery_channels', 'models', 'workers']
COUNTERS = ['login_failures']
OWN_FUNCTIONS = {'is_own_user': 'users', 'is_own_job': 'jobs'}
EVERYTHING = 'SELECT, INSERT, UPDATE, DELETE'


def upgrade() -> None:
    """Apply the change."""
    # Fail rather than make everybody wait behind a lock that cannot be had.
    op.execute("SET LOCAL lock_timeout = '5s'")
    # Roles belong to all databases of a server; another one may be making it just now.
    op.execute(f"""
        DO $$ BEGIN
            IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{ROLE}') THEN
                BEGIN
                    CREATE ROLE {ROLE} NOLOGIN;
                EXCEPTION WHEN duplicate_object OR unique_violation THEN
                    NULL;
                END;
            END IF;
            IF NOT pg_has_role(CURRENT_USER, '{ROLE}', 'SET') THEN
                GRANT {ROLE} TO CURRENT_USER;
            END IF;
        EXCEPTION
            WHEN insufficient_privilege THEN
                RAISE EXCEPTION 'The role {ROLE} is missing, or this user is no member of it.'
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
    # They see what their caller sees: of users and jobs, the tenant's own.
    for function, table in OWN_FUNCTIONS.items():
        op.execute(f"""
            CREATE FUNCTION {function}(wanted uuid) RETURNS boolean
            STABLE PARALLEL SAFE LANGUAGE plpgsql AS
            $$ BEGIN RETURN EXISTS (SELECT FROM public.{table} WHERE id = wanted); END $$
        """)
    for table in SHARED:
        op.execute(f'GRANT SELECT ON {table} TO {ROLE}')
    for table in COUNTERS:
        op.execute(f'GRANT {EVERYTHING} ON {table} TO {ROLE}')
    for table, seen, written in POLICIES:
        rights = 'SELECT, INSERT' if table in APPEND_ONLY else EVERYTHING
        op.execute(f'GRANT {rights} ON {table} TO {ROLE}')
        op.execute(f'ALTER TABLE {table} ENABLE ROW LEVEL SECURITY')
        op.execute(
            f'CREATE POLICY tenant ON {table} TO {ROLE}'
            f' USING ({seen}) WITH CHECK ({written or seen})'
        )


def downgrade() -> None:
    """Take the change back; the role may be in use by another database."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    for table, _, _ in POLICIES:
        op.execute(f'DROP POLICY tenant ON {table}')
        op.execute(f'ALTER TABLE {table} DISABLE ROW LEVEL SECURITY')
    for table in [*(table for table, _, _ in POLICIES), *SHARED, *COUNTERS]:
        op.execute(f'REVOKE ALL ON {table} FROM {ROLE}')
    for function in OWN_FUNCTIONS:
        op.execute(f'DROP FUNCTION {function}(uuid)')
    op.execute('DROP FUNCTION current_tenant()')
    op.execute(f'REVOKE USAGE ON ALL SEQUENCES IN SCHEMA public FROM {ROLE}')
    op.execute(f'REVOKE USAGE ON SCHEMA public FROM {ROLE}')
