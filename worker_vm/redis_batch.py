"""Several Redis commands as one message."""

import json
from typing import Any

from redis import Redis
from redis.client import Pipeline

_SCRIPT = """
local first
for number, command in ipairs(cjson.decode(ARGV[1])) do
    local answer = redis.call(unpack(command))
    if number == 1 then
        first = answer
    end
end
return first
"""


class RedisBatch:
    """Executes what a pipeline has gathered, undivided like a transaction, as one script.

    A transaction of fifteen commands is one round trip too, but redis-py writes each of them, and
    reads each answer, in Python; that took two fifths of the worker's time for a job.

    Args:
        connection: on which the scripts are executed.
    """

    def __init__(self, connection: Redis) -> None:
        self._script = connection.register_script(_SCRIPT)

    def execute(self, pipeline: Pipeline) -> Any:
        """Execute the pipeline's commands.

        Args:
            pipeline: empty afterwards. Its commands must be text and numbers.

        Returns:
            The answer to the first command.

        Raises:
            redis.ResponseError: of the first command that fails; those after it are not executed.
        """
        commands = [command for command, _ in pipeline.command_stack]
        pipeline.reset()
        # redis-py has some of its own words as bytes.
        return self._script(args=[json.dumps(commands, default=bytes.decode)])
