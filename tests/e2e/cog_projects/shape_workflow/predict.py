"""The shape of a workflow runner's predictor: a child process from setup, folders cleaned by each call, secrets."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from typing import List, Optional

from cog import BasePredictor, Input, Path, Secret

OUTPUT_DIR = os.path.join(tempfile.gettempdir(), f"workflow-outputs-{os.getpid()}")

CHILD = """
import json, sys
for line in sys.stdin:
    asked = json.loads(line)
    with open(asked["path"], "w") as file:
        file.write(asked["text"].upper())
    print(json.dumps({"made": asked["path"]}), flush=True)
"""


class Predictor(BasePredictor):
    def setup(self, weights: str = None):
        if weights:
            raise RuntimeError("no weights are known here")
        command = [sys.executable, "-c", CHILD]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.child = subprocess.Popen(command, text=True, close_fds=False, **pipes)

    def clean(self):
        shutil.rmtree(OUTPUT_DIR, ignore_errors=True)
        os.makedirs(OUTPUT_DIR)

    def predict(
        self,
        workflow_json: str = Input(description="What to do, as JSON", default=""),
        input_file: Optional[Path] = Input(description="A file that is moved into place", default=None),
        randomise_seeds: bool = Input(default=True),
        api_token: Optional[Secret] = Input(default=None),
    ) -> List[Path]:
        """Run a single prediction on the model"""
        self.clean()
        asked = json.loads(workflow_json or "{}")
        text = asked.get("text", "nothing")
        if input_file:
            moved = os.path.join(OUTPUT_DIR, "input" + os.path.splitext(str(input_file))[1])
            shutil.move(str(input_file), moved)
            text += open(moved).read()
            os.remove(moved)
        if api_token:
            text += f" {api_token} {len(api_token.get_secret_value())}"
        path = os.path.join(OUTPUT_DIR, "result.txt")
        self.child.stdin.write(json.dumps({"path": path, "text": text}) + "\n")
        self.child.stdin.flush()
        print(self.child.stdout.readline().strip().replace(OUTPUT_DIR, "OUT"))
        return [Path(os.path.join(OUTPUT_DIR, name)) for name in sorted(os.listdir(OUTPUT_DIR))]
