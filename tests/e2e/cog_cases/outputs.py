"""What comes back: values, metrics, trainings, and the shapes of published models."""

import base64
import json

from .registry import TEXT_FILE, asked, case, each, seen


@case("anything")
def outputs_of_every_kind(side):
    kinds = ["none", "list", "dict", "tuple", "dataclass", "enum", "datetime", "unicode", "big", "float", "keys"]
    return dict(zip(kinds, each(side, [{"kind": kind} for kind in kinds])))


@case("anything")
def outputs_that_cannot_be_written_as_json(side):
    kinds = ["bytes", "object", "nan"]
    found = {kind: side.predict(input={"kind": kind}) for kind in kinds}
    return {kind: {"status": answer.status, "ended": answer.json["status"]} for kind, answer in found.items()}


@case("objects")
def objects(side):
    return each(side, [{}, {"count": 0}, {"picture": True}])


@case("unions")
def union_inputs(side):
    good = [{}, {"either": 7}, {"either": "seven"}, {"number": 1.5}, {"number": 2}, {"words": ["a", "b"]},
            {"table": {"a": [1, None]}}, {"counts": []}]  # fmt: skip
    return each(side, good)


@case("unions")
def union_inputs_of_the_wrong_type(side):
    wrong = [{"either": [1]}, {"either": 1.5}, {"number": "1"}, {"words": "a"}, {"words": [1]}, {"table": []},
             {"counts": ["a"]}, {"counts": [1, 2.5]}]  # fmt: skip
    return each(side, wrong)


@case("iterator")
def iterators_are_lists_in_the_end(side):
    return each(side, [{}, {"count": 0}, {"count": 1}])


@case("scope")
def metrics(side):
    return each(side, [{"way": way} for way in ("none", "replace", "incr", "append", "method")])


@case("scope")
def names_of_metrics(side):
    names = ["good", "a.b.c", "_x", "x_", "a__b", "1a", "a..b", ".a", "a.b.c.d.e", "predict_time", "cog.x", "x" * 129]
    answers = [side.predict(input={"way": "named", "name": name}) for name in names]
    return [[name, answer.json["status"], sorted(answer.json["metrics"])] for name, answer in zip(names, answers)]


@case("scope")
def a_metric_of_two_types(side):
    answer = side.predict(input={"way": "types"})
    return {"ended": answer.json["status"], "metrics": answer.json["metrics"]}


@case("scope")
def context(side):
    return [asked(side, input={}, context={"user": "ann", "b": "ü"}), asked(side, input={})]


@case("train", train=True)
def training(side):
    asks = [{"input": {"prefix": "hi"}}, {"input": {"prefix": "hi", "steps": 11}}, {"input": {}}]
    return [seen(side.ask("POST", "/trainings", body)) for body in asks]


@case("train", train=True)
def training_by_put(side):
    return seen(side.ask("PUT", "/trainings/train-1", {"input": {"prefix": "hi", "steps": 1}}))


@case("train", train=True)
def training_canceled_that_is_not_there(side):
    return seen(side.ask("POST", "/trainings/never-made/cancel"))


@case("train", train=True)
def root_with_trainings(side):
    return seen(side.ask("GET", "/"))


@case("train")
def root_of_a_model_that_can_be_trained(side):
    return seen(side.ask("GET", "/"))


@case("train")
def predictions_of_a_model_that_can_be_trained(side):
    return asked(side, input={"text": "you"})


@case("train")
def training_asked_of_a_server_for_predictions(side):
    return seen(side.ask("POST", "/trainings", {"input": {"prefix": "hi", "text": "x"}}))


@case("shape_llm")
def shape_of_a_language_model(side):
    asks = [{"prompt": "go"}, {"prompt": "go", "max_tokens": 2, "system_prompt": "be"}, {"stop_sequences": "two"}]
    return each(side, asks)


@case("shape_upscaler")
def shape_of_an_upscaler(side):
    asks = [{"image": TEXT_FILE, "seed": 1}, {"image": TEXT_FILE, "factor": "triple", "num_outputs": 2}]
    return each(side, asks)


@case("shape_workflow")
def shape_of_a_workflow(side):
    asked_for = json.dumps({"text": "words"})
    asks = [{}, {"workflow_json": asked_for, "input_file": TEXT_FILE}, {"workflow_json": asked_for, "api_token": "abc"}]
    return each(side, asks)


@case("shape_pydantic")
def shape_of_an_analysis_model(side):
    words = "data:text/plain,some%20words"
    return each(side, [{"audio": words}, {"audio": words, "mode": "encode"}])


@case("shape_progress")
def shape_of_a_drawing_model(side):
    found = side.predict(input={"steps": 10}).json["output"]
    steps = [base64.b64decode(one.partition(",")[2]).decode() for one in found]
    return [asked(side, input={"steps": 1}), steps == [f"step {number}" for number in range(10)]]
