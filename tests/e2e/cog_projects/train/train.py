"""Training that writes weights."""

from cog import BaseModel, Input, Path


class TrainingOutput(BaseModel):
    weights: Path
    steps: int


def train(
    prefix: str = Input(description="what to greet with"), steps: int = Input(default=3, ge=1, le=10)
) -> TrainingOutput:
    for step in range(steps):
        print(f"step {step + 1}")
    with open("weights.txt", "w") as file:
        file.write(prefix)
    return TrainingOutput(weights=Path("weights.txt"), steps=steps)
