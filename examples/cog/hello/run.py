"""The smallest model: text in, text out.

clunk run examples/cog/hello -i name=world
clunk push examples/cog/hello
"""

from cog import BaseRunner, Input


class Runner(BaseRunner):
    def setup(self):
        """Once per replica: where a real model loads its weights."""
        self.greeting = "hello"

    def run(
        self,
        name: str = Input(description="Who is greeted", max_length=100),
        times: int = Input(description="How often", default=1, ge=1, le=10),
    ) -> str:
        return ", ".join([f"{self.greeting} {name}"] * times)
