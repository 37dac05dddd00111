from cog import BaseRunner, Input


class Runner(BaseRunner):
    def setup(self):
        """Runs once, when a container starts: the place to load weights."""
        self.greeting = "Hello"

    def run(
        self,
        name: str = Input(description="Whom to greet"),
        times: int = Input(description="How often", default=1, ge=1, le=10),
    ) -> str:
        """Runs for every prediction."""
        print(f"greeting {name}")
        return "\n".join([f"{self.greeting}, {name}!"] * times)
