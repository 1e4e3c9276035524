"""Real servers from the package index, each in a folder of its own, without root or Docker."""

from devstack.servers.base import EmbeddedServer
from devstack.servers.postgres import PostgresServer
from devstack.servers.redis import RedisServer
from devstack.servers.s3 import S3Server

__all__ = ["EmbeddedServer", "PostgresServer", "RedisServer", "S3Server"]
