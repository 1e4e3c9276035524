"""The first tables."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql
revision = '0001'
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply the change."""
    # Fail rather than make everybody wait behind a lock that cannot be had.
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.create_table('api_processes',
    sa.Column('id', sa.Uuid(), nullable=False),
    sa.Column('seen_at', sa.DateTime(timezone=True), nullable=False),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_api_processes'))
    )
    op.create_table('models',
    sa.Column('id', sa.Text(), nullable=False),
    sa.Column('name', sa.Text(), nullable=False),
    sa.Column('description', sa.Text(), nullable=False),
    sa.Column('kind', sa.Text(), nullable=False),
    sa.Column('version', sa.Text(), nullable=False),
    sa.Column('licence', sa.Text(), nullable=False),
    sa.Column('pipeline', sa.Text(), nullable=False),
    sa.Column('queue', sa.Text(), nullable=False),
    sa.Column('prompt_policy', sa.Text(), nullable=False),
    sa.Column('parameters', postgresql.JSONB(astext_type=sa.Text()), nullable=False),
    sa.Column('main_artifact', sa.Text(), nullable=False),
    sa.Column('max_attempts', sa.Integer(), server_default=sa.text('3'), nullable=False),
    sa.Column('time_limit_seconds', sa.Integer(), nullable=False),
    sa.Column('retention_days', sa.Integer(), server_default=sa.text('7'), nullable=False),
    sa.Column('enabled', sa.Boolean(), server_default=sa.text('true'), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('updated_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.CheckConstraint("prompt_policy IN ('required', 'optional', 'none')", name=op.f('ck_models_prompt_policy')),
    sa.CheckConstraint('max_attempts BETWEEN 1 AND 20', name=op.f('ck_models_max_attempts')),
    sa.CheckConstraint('time_limit_seconds > 0', name=op.f('ck_models_time_limit_seconds')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_models'))
    )
    op.create_table('organisations',
    sa.Column('id', sa.Uuid(), nullable=False),
    sa.Column('name', sa.Text(), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_organisations')),
    sa.UniqueConstraint('name', name=op.f('uq_organisations_name'))
    )
    op.create_table('workers',
    sa.Column('name', sa.Text(), nullable=False),
    sa.Column('hostname', sa.Text(), nullable=False),
    sa.Column('version', sa.Text(), nullable=False),
    sa.Column('queue', sa.Text(), nullable=False),
    sa.Column('started_at', sa.DateTime(timezone=True), nullable=False),
    sa.Column('last_seen_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('cpu_count', sa.Integer(), nullable=False),
    sa.Column('memory_total_mib', sa.Integer(), nullable=False),
    sa.Column('gpus', postgresql.JSONB(astext_type=sa.Text()), nullable=False),
    sa.Column('versions', postgresql.JSONB(astext_type=sa.Text()), nullable=False),
    sa.Column('pipelines', postgresql.JSONB(astext_type=sa.Text()), nullable=False),
    sa.Column('runnable', postgresql.ARRAY(sa.TEXT()), nullable=False),
    sa.Column('warm', postgresql.ARRAY(sa.TEXT()), nullable=False),
    sa.Column('current_attempt_id', sa.Uuid(), nullable=True),
    sa.Column('stopping', sa.Boolean(), server_default=sa.text('false'), nullable=False),
    sa.PrimaryKeyConstraint('name', name=op.f('pk_workers'))
    )
    op.create_index('ix_workers_queue_last_seen_at', 'workers', ['queue', 'last_seen_at'], unique=False)
    op.create_table('users',
    sa.Column('id', sa.Uuid(), nullable=False),
    sa.Column('organisation_id', sa.Uuid(), nullable=False),
    sa.Column('username', sa.Text(), nullable=False),
    sa.Column('password_hash', sa.Text(), nullable=False),
    sa.Column('role', sa.Text(), nullable=False),
    sa.Column('is_active', sa.Boolean(), server_default=sa.text('true'), nullable=False),
    sa.Column('max_active_jobs', sa.Integer(), nullable=True),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.CheckConstraint("role IN ('admin', 'operator', 'viewer')", name=op.f('ck_users_role')),
    sa.ForeignKeyConstraint(['organisation_id'], ['organisations.id'], name=op.f('fk_users_organisation_id')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_users'))
    )
    op.create_index(op.f('ix_users_organisation_id'), 'users', ['organisation_id'], unique=False)
    op.create_index('uq_users_username_lower', 'users', [sa.literal_column('lower(username)')], unique=True)
    op.create_table('api_keys',
    sa.Column('id', sa.Uuid(), nullable=False),
    sa.Column('kind', sa.Text(), nullable=False),
    sa.Column('user_id', sa.Uuid(), nullable=True),
    sa.Column('name', sa.Text(), nullable=False),
    sa.Column('prefix', sa.Text(), nullable=False),
    sa.Column('key_hash', sa.Text(), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('expires_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('revoked_at', sa.DateTime(timezone=True), nullable=True),
    sa.CheckConstraint("(kind = 'user' AND user_id IS NOT NULL) OR (kind = 'worker' AND user_id IS NULL)", name=op.f('ck_api_keys_kind_owner')),
    sa.ForeignKeyConstraint(['user_id'], ['users.id'], name=op.f('fk_api_keys_user_id'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_api_keys')),
    sa.UniqueConstraint('key_hash', name=op.f('uq_api_keys_key_hash'))
    )
    op.create_index(op.f('ix_api_keys_user_id'), 'api_keys', ['user_id'], unique=False)
    op.create_table('jobs',
    sa.Column('id', sa.Uuid(), nullable=False),
    sa.Column('seq', sa.BigInteger(), sa.Identity(always=True), nullable=False),
    sa.Column('organisation_id', sa.Uuid(), nullable=False),
    sa.Column('user_id', sa.Uuid(), nullable=False),
    sa.Column('model_id', sa.Text(), nullable=False),
    sa.Column('model_version', sa.Text(), nullable=False),
    sa.Column('queue', sa.Text(), nullable=False),
    sa.Column('status', sa.Text(), nullable=False),
    sa.Column('input_params', postgresql.JSONB(astext_type=sa.Text()), nullable=False),
    sa.Column('prompt', sa.Text(), nullable=True),
    sa.Column('priority', sa.SmallInteger(), server_default=sa.text('0'), nullable=False),
    sa.Column('max_attempts', sa.SmallInteger(), nullable=False),
    sa.Column('failures', sa.SmallInteger(), server_default=sa.text('0'), nullable=False),
    sa.Column('releases', sa.SmallInteger(), server_default=sa.text('0'), nullable=False),
    sa.Column('slot', sa.SmallInteger(), nullable=True),
    sa.Column('current_attempt_id', sa.Uuid(), nullable=True),
    sa.Column('main_artifact_id', sa.Uuid(), nullable=True),
    sa.Column('available_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('cancel_requested_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('progress_percent', sa.REAL(), server_default=sa.text('0'), nullable=False),
    sa.Column('stage', sa.Text(), nullable=True),
    sa.Column('message', sa.Text(), nullable=True),
    sa.Column('error_code', sa.Text(), nullable=True),
    sa.Column('error_message', sa.Text(), nullable=True),
    sa.Column('error_permanent', sa.Boolean(), nullable=True),
    sa.Column('idempotency_key', sa.Text(), nullable=True),
    sa.Column('request_hash', sa.Text(), nullable=True),
    sa.Column('request_id', sa.Text(), nullable=True),
    sa.Column('traceparent', sa.Text(), nullable=True),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('started_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('completed_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('expires_at', sa.DateTime(timezone=True), nullable=True),
    sa.CheckConstraint("(status = 'FAILED') <= (error_code IS NOT NULL)", name=op.f('ck_jobs_error_code')),
    sa.CheckConstraint("(status IN ('CANCELLED', 'EXPIRED', 'FAILED', 'SUCCEEDED')) = (completed_at IS NOT NULL)", name=op.f('ck_jobs_completed_at')),
    sa.CheckConstraint("CASE status WHEN 'QUEUED' THEN true WHEN 'RUNNING' THEN slot IS NOT NULL ELSE slot IS NULL END", name=op.f('ck_jobs_slot')),
    sa.CheckConstraint("status IN ('CANCELLED', 'EXPIRED', 'FAILED', 'QUEUED', 'RUNNING', 'SUCCEEDED')", name=op.f('ck_jobs_status')),
    sa.ForeignKeyConstraint(['model_id'], ['models.id'], name=op.f('fk_jobs_model_id')),
    sa.ForeignKeyConstraint(['organisation_id'], ['organisations.id'], name=op.f('fk_jobs_organisation_id')),
    sa.ForeignKeyConstraint(['user_id'], ['users.id'], name=op.f('fk_jobs_user_id')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_jobs'))
    )
    op.create_index('ix_jobs_expires_at', 'jobs', ['expires_at'], unique=False, postgresql_where=sa.text("status IN ('SUCCEEDED', 'FAILED', 'CANCELLED')"))
    op.create_index('ix_jobs_organisation_id_id', 'jobs', ['organisation_id', sa.literal_column('id DESC')], unique=False)
    op.create_index('ix_jobs_organisation_id_status_id', 'jobs', ['organisation_id', 'status', sa.literal_column('id DESC')], unique=False)
    op.create_index('ix_jobs_user_id_id', 'jobs', ['user_id', sa.literal_column('id DESC')], unique=False)
    op.create_index('ix_jobs_waiting', 'jobs', ['user_id', 'queue', 'model_id', sa.literal_column('priority DESC'), 'seq'], unique=False, postgresql_where=sa.text("status = 'QUEUED' AND slot IS NULL"))
    op.create_index('uq_jobs_idempotency_key', 'jobs', ['user_id', 'idempotency_key'], unique=True, postgresql_where=sa.text('idempotency_key IS NOT NULL'))
    op.create_index('uq_jobs_user_id_slot', 'jobs', ['user_id', 'slot'], unique=True, postgresql_where=sa.text('slot IS NOT NULL'))
    op.create_table('user_queue',
    sa.Column('user_id', sa.Uuid(), nullable=False),
    sa.Column('queue', sa.Text(), nullable=False),
    sa.Column('model_id', sa.Text(), nullable=False),
    sa.Column('ready_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('last_admit_at', sa.DateTime(timezone=True), nullable=True),
    sa.ForeignKeyConstraint(['user_id'], ['users.id'], name=op.f('fk_user_queue_user_id'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('user_id', 'queue', 'model_id', name=op.f('pk_user_queue'))
    )
    op.create_index('ix_user_queue_turn', 'user_queue', ['queue', 'model_id', sa.literal_column('last_admit_at NULLS FIRST'), 'user_id'], unique=False, postgresql_where=sa.text('ready_at IS NOT NULL'))
    op.create_table('attempts',
    sa.Column('id', sa.Uuid(), nullable=False),
    sa.Column('job_id', sa.Uuid(), nullable=False),
    sa.Column('model_id', sa.Text(), nullable=False),
    sa.Column('queue', sa.Text(), nullable=False),
    sa.Column('number', sa.SmallInteger(), nullable=False),
    sa.Column('status', sa.Text(), nullable=False),
    sa.Column('time_limit_seconds', sa.Integer(), nullable=False),
    sa.Column('worker_name', sa.Text(), nullable=True),
    sa.Column('claim_id', sa.Uuid(), nullable=True),
    sa.Column('lease_expires_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('deadline_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('dispatched_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('pushed_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('started_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('finished_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('report_hash', sa.Text(), nullable=True),
    sa.Column('error_code', sa.Text(), nullable=True),
    sa.Column('error_message', sa.Text(), nullable=True),
    sa.Column('log_tail', sa.Text(), nullable=True),
    sa.Column('metrics', postgresql.JSONB(astext_type=sa.Text()), nullable=True),
    sa.CheckConstraint("(status = 'RUNNING') <= (lease_expires_at IS NOT NULL AND claim_id IS NOT NULL)", name=op.f('ck_attempts_lease')),
    sa.CheckConstraint("(status IN ('DISPATCHED', 'RUNNING')) = (finished_at IS NULL)", name=op.f('ck_attempts_finished_at')),
    sa.CheckConstraint("status IN ('CANCELLED', 'DISPATCHED', 'FAILED', 'LOST', 'RELEASED', 'RUNNING', 'SUCCEEDED')", name=op.f('ck_attempts_status')),
    sa.ForeignKeyConstraint(['job_id'], ['jobs.id'], name=op.f('fk_attempts_job_id'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_attempts'))
    )
    op.create_index('ix_attempts_job_id', 'attempts', ['job_id'], unique=False)
    op.create_index('ix_attempts_lease_expires_at', 'attempts', ['lease_expires_at'], unique=False, postgresql_where=sa.text("status = 'RUNNING'"))
    op.create_index('ix_attempts_live_queue', 'attempts', ['queue', 'status', 'dispatched_at'], unique=False, postgresql_where=sa.text("status IN ('DISPATCHED', 'RUNNING')"))
    op.create_index('ix_attempts_run_times', 'attempts', ['model_id', sa.literal_column('finished_at DESC')], unique=False, postgresql_where=sa.text("status = 'SUCCEEDED'"))
    op.create_index('uq_attempts_live', 'attempts', ['job_id'], unique=True, postgresql_where=sa.text("status IN ('DISPATCHED', 'RUNNING')"))
    op.create_table('job_events',
    sa.Column('id', sa.BigInteger(), sa.Identity(always=True), nullable=False),
    sa.Column('job_id', sa.Uuid(), nullable=False),
    sa.Column('attempt_id', sa.Uuid(), nullable=True),
    sa.Column('type', sa.Text(), nullable=False),
    sa.Column('data', postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('clock_timestamp()'), nullable=False),
    sa.ForeignKeyConstraint(['job_id'], ['jobs.id'], name=op.f('fk_job_events_job_id'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_job_events'))
    )
    op.create_index('ix_job_events_job_id_id', 'job_events', ['job_id', 'id'], unique=False)
    op.create_table('artifacts',
    sa.Column('id', sa.Uuid(), nullable=False),
    sa.Column('job_id', sa.Uuid(), nullable=False),
    sa.Column('attempt_id', sa.Uuid(), nullable=True),
    sa.Column('parameter', sa.Text(), nullable=True),
    sa.Column('kind', sa.Text(), nullable=False),
    sa.Column('name', sa.Text(), nullable=False),
    sa.Column('media_type', sa.Text(), nullable=False),
    sa.Column('size_bytes', sa.BigInteger(), nullable=False),
    sa.Column('sha256', sa.Text(), nullable=True),
    sa.Column('etag', sa.Text(), nullable=False),
    sa.Column('object_key', sa.Text(), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.ForeignKeyConstraint(['attempt_id'], ['attempts.id'], name=op.f('fk_artifacts_attempt_id'), ondelete='CASCADE'),
    sa.ForeignKeyConstraint(['job_id'], ['jobs.id'], name=op.f('fk_artifacts_job_id'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_artifacts'))
    )
    op.create_index('ix_artifacts_job_id', 'artifacts', ['job_id'], unique=False)
    op.create_index('ix_artifacts_object_key', 'artifacts', ['object_key'], unique=False)
    op.create_index('uq_artifacts_attempt_id_name', 'artifacts', ['attempt_id', 'name'], unique=True, postgresql_where=sa.text('attempt_id IS NOT NULL'))
    op.create_table('upload_tickets',
    sa.Column('id', sa.Uuid(), nullable=False),
    sa.Column('user_id', sa.Uuid(), nullable=False),
    sa.Column('attempt_id', sa.Uuid(), nullable=True),
    sa.Column('object_key', sa.Text(), nullable=False),
    sa.Column('kind', sa.Text(), nullable=False),
    sa.Column('name', sa.Text(), nullable=False),
    sa.Column('media_type', sa.Text(), nullable=False),
    sa.Column('size_bytes', sa.BigInteger(), nullable=True),
    sa.Column('sha256', sa.Text(), nullable=True),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('expires_at', sa.DateTime(timezone=True), nullable=False),
    sa.Column('keep_until', sa.DateTime(timezone=True), nullable=True),
    sa.ForeignKeyConstraint(['attempt_id'], ['attempts.id'], name=op.f('fk_upload_tickets_attempt_id'), ondelete='CASCADE'),
    sa.ForeignKeyConstraint(['user_id'], ['users.id'], name=op.f('fk_upload_tickets_user_id'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_upload_tickets')),
    sa.UniqueConstraint('object_key', name=op.f('uq_upload_tickets_object_key'))
    )
    op.create_index('ix_upload_tickets_keep_until', 'upload_tickets', ['keep_until'], unique=False)
    op.create_index(op.f('ix_upload_tickets_user_id'), 'upload_tickets', ['user_id'], unique=False)
    op.create_index('uq_upload_tickets_attempt_id_name', 'upload_tickets', ['attempt_id', 'name'], unique=True, postgresql_where=sa.text('attempt_id IS NOT NULL'))


def downgrade() -> None:
    """Take the change back."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.drop_index('uq_upload_tickets_attempt_id_name', table_name='upload_tickets', postgresql_where=sa.text('attempt_id IS NOT NULL'))
    op.drop_index(op.f('ix_upload_tickets_user_id'), table_name='upload_tickets')
    op.drop_index('ix_upload_tickets_keep_until', table_name='upload_tickets')
    op.drop_table('upload_tickets')
    op.drop_index('uq_artifacts_attempt_id_name', table_name='artifacts', postgresql_where=sa.text('attempt_id IS NOT NULL'))
    op.drop_index('ix_artifacts_object_key', table_name='artifacts')
    op.drop_index('ix_artifacts_job_id', table_name='artifacts')
    op.drop_table('artifacts')
    op.drop_index('ix_job_events_job_id_id', table_name='job_events')
    op.drop_table('job_events')
    op.drop_index('uq_attempts_live', table_name='attempts', postgresql_where=sa.text("status IN ('DISPATCHED', 'RUNNING')"))
    op.drop_index('ix_attempts_run_times', table_name='attempts', postgresql_where=sa.text("status = 'SUCCEEDED'"))
    op.drop_index('ix_attempts_live_queue', table_name='attempts', postgresql_where=sa.text("status IN ('DISPATCHED', 'RUNNING')"))
    op.drop_index('ix_attempts_lease_expires_at', table_name='attempts', postgresql_where=sa.text("status = 'RUNNING'"))
    op.drop_index('ix_attempts_job_id', table_name='attempts')
    op.drop_table('attempts')
    op.drop_index('ix_user_queue_turn', table_name='user_queue', postgresql_where=sa.text('ready_at IS NOT NULL'))
    op.drop_table('user_queue')
    op.drop_index('uq_jobs_user_id_slot', table_name='jobs', postgresql_where=sa.text('slot IS NOT NULL'))
    op.drop_index('uq_jobs_idempotency_key', table_name='jobs', postgresql_where=sa.text('idempotency_key IS NOT NULL'))
    op.drop_index('ix_jobs_waiting', table_name='jobs', postgresql_where=sa.text("status = 'QUEUED' AND slot IS NULL"))
    op.drop_index('ix_jobs_user_id_id', table_name='jobs')
    op.drop_index('ix_jobs_organisation_id_status_id', table_name='jobs')
    op.drop_index('ix_jobs_organisation_id_id', table_name='jobs')
    op.drop_index('ix_jobs_expires_at', table_name='jobs', postgresql_where=sa.text("status IN ('SUCCEEDED', 'FAILED', 'CANCELLED')"))
    op.drop_table('jobs')
    op.drop_index(op.f('ix_api_keys_user_id'), table_name='api_keys')
    op.drop_table('api_keys')
    op.drop_index('uq_users_username_lower', table_name='users')
    op.drop_index(op.f('ix_users_organisation_id'), table_name='users')
    op.drop_table('users')
    op.drop_index('ix_workers_queue_last_seen_at', table_name='workers')
    op.drop_table('workers')
    op.drop_table('organisations')
    op.drop_table('models')
    op.drop_table('api_processes')
