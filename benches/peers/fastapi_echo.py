"""An echo behind FastAPI and uvicorn as one would write it by hand: input checked, output checked, one process."""

import sys

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

app = FastAPI()


class Input(BaseModel):
    text: str


class Request(BaseModel):
    input: Input


class Response(BaseModel):
    output: str
    status: str


def predict(text: str) -> str:
    return text


@app.post("/predictions")
async def predictions(request: Request) -> Response:
    return Response(output=predict(request.input.text), status="succeeded")


if __name__ == "__main__":
    port = int(sys.argv[1])
    quiet = {"access_log": False, "log_level": "warning"}
    uvicorn.run(app, host="127.0.0.1", port=port, loop="uvloop", http="httptools", **quiet)
