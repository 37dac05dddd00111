"""The OpenAPI of Cog predictors, byte for byte as Cog's own tools write it."""
# ruff: noqa: E501  A table is read by its rows.

import json

import pytest
from cog_project import input_of, of, output_of, predictor

# parameter, its property, whether it is required.
INPUTS = [
    ('text: str = Input(description="d")', '{"description":"d","title":"Text","type":"string","x-order":0}', True),
    (
        "num_inference_steps: int = Input(default=50, ge=1, le=500)",
        '{"default":50,"maximum":500,"minimum":1,"title":"Num Inference Steps","type":"integer","x-order":0}',
        False,
    ),
    (
        'x: str = Input(default="a", min_length=1, max_length=3, regex="^a", deprecated=True)',
        '{"default":"a","deprecated":true,"maxLength":3,"minLength":1,"pattern":"^a","title":"X","type":"string","x-order":0}',
        False,
    ),
    (
        'p: Path = Input(accept="image/*")',
        '{"format":"uri","title":"P","type":"string","x-cog-accept":"image/*","x-order":0}',
        True,
    ),
    ("f: File", '{"format":"uri","title":"F","type":"string","x-order":0}', True),
    (
        "k: Secret",
        '{"format":"password","title":"K","type":"string","writeOnly":true,"x-cog-secret":true,"x-order":0}',
        True,
    ),
    (
        "k: Secret = Input(default=None)",
        '{"default":null,"format":"password","nullable":true,"title":"K","type":"string","writeOnly":true,'
        '"x-cog-secret":true,"x-order":0}',
        False,
    ),
    ("o: Optional[str]", '{"nullable":true,"title":"O","type":"string","x-order":0}', False),
    ("o: Optional[str] = None", '{"default":null,"nullable":true,"title":"O","type":"string","x-order":0}', False),
    ("xs: list[Path]", '{"items":{"format":"uri","type":"string"},"title":"Xs","type":"array","x-order":0}', True),
    (
        "ol: Optional[list[int]] = None",
        '{"default":null,"items":{"type":"integer"},"nullable":true,"title":"Ol","type":"array","x-order":0}',
        False,
    ),
    ("d: dict", '{"title":"D","type":"object","x-order":0}', True),
    ("d: Dict[str, int]", '{"title":"D","type":"object","x-order":0}', True),
    ("d: Any", '{"title":"D","type":"object","x-order":0}', True),
    ("d: list[dict]", '{"items":{"type":"object"},"title":"D","type":"array","x-order":0}', True),
    (
        "u: Union[int, str] = 5",
        '{"anyOf":[{"type":"integer"},{"type":"string"}],"default":5,"title":"U","x-order":0}',
        False,
    ),
    (
        "u: int | float | None = None",
        '{"anyOf":[{"nullable":true,"type":"integer"},{"nullable":true,"type":"number"}],"default":null,'
        '"nullable":true,"title":"U","x-order":0}',
        False,
    ),
    (
        "u: Optional[Union[int, str]]",
        '{"anyOf":[{"nullable":true,"type":"integer"},{"nullable":true,"type":"string"}],'
        '"nullable":true,"title":"U","x-order":0}',
        True,
    ),
    (
        "n: list[int] | list[float]",
        '{"anyOf":[{"items":{"type":"integer"},"type":"array"},{"items":{"type":"number"},"type":"array"}],'
        '"title":"N","x-order":0}',
        True,
    ),
    ("s: str = None", '{"title":"S","type":"string","x-order":0}', True),
    ("seed: int = Input(default=None)", '{"title":"Seed","type":"integer","x-order":0}', True),
    ("p: Path = None", '{"format":"uri","title":"P","type":"string","x-order":0}', True),
    ("f: float = 1.0", '{"default":1,"title":"F","type":"number","x-order":0}', False),
    (
        "f: float = Input(default=0.5, ge=0.0, le=1.0)",
        '{"default":0.5,"maximum":1,"minimum":0,"title":"F","type":"number","x-order":0}',
        False,
    ),
    ("b: bool = False", '{"default":false,"title":"B","type":"boolean","x-order":0}', False),
]


def line(value):
    return json.dumps(value, separators=(",", ":"))


@pytest.mark.parametrize(("parameter", "wanted", "required"), INPUTS, ids=[each[0] for each in INPUTS])
def test_an_input(tmp_path, parameter, wanted, required):
    made, is_required, _ = input_of(tmp_path, parameter)
    assert line(made) == wanted
    assert is_required is required


@pytest.mark.parametrize(
    ("parameter", "wanted", "component"),
    [
        (
            'm: str = Input(default="fast", choices=["fast", "slow"], description="m")',
            '{"allOf":[{"$ref":"#/components/schemas/m"}],"default":"fast","description":"m","x-order":0}',
            '{"description":"An enumeration.","enum":["fast","slow"],"title":"m","type":"string"}',
        ),
        (
            "m: Optional[str] = Input(default=None, choices=['a', 'b'])",
            '{"allOf":[{"$ref":"#/components/schemas/m"}],"default":null,"nullable":true,"x-order":0}',
            '{"description":"An enumeration.","enum":["a","b"],"title":"m","type":"string"}',
        ),
        (
            "n: int = Input(choices=[1, 2])",
            '{"allOf":[{"$ref":"#/components/schemas/n"}],"x-order":0}',
            '{"description":"An enumeration.","enum":[1,2],"title":"n","type":"integer"}',
        ),
        (
            "f: float = Input(choices=[0.5, 1.0])",
            '{"allOf":[{"$ref":"#/components/schemas/f"}],"x-order":0}',
            '{"description":"An enumeration.","enum":[0.5,1],"title":"f","type":"number"}',
        ),
        (
            "b: bool = Input(choices=[True, False])",
            '{"allOf":[{"$ref":"#/components/schemas/b"}],"x-order":0}',
            '{"description":"An enumeration.","enum":[true,false],"title":"b","type":"boolean"}',
        ),
    ],
)
def test_choices_are_a_component(tmp_path, parameter, wanted, component):
    made, _, enums = input_of(tmp_path, parameter)
    assert line(made) == wanted
    assert [line(each) for each in enums.values()] == [component]


SIZES = "SIZES = {'s': 1, 'l': 2}\nMORE = ['xl']\nSTART = 's'\nLEAST, MOST = 1, 9\nLIMIT = 10 ** 2\n"


@pytest.mark.parametrize(
    "choices",
    [
        "['s', 'l', 'xl']",
        "list(SIZES.keys()) + MORE",
        "[*SIZES, *MORE]",
        "sorted(SIZES, reverse=True) + ['xl']",
        "NAMES",
    ],
)
def test_choices_from_names(tmp_path, choices):
    before = SIZES + "NAMES = [f'{name}' for name in SIZES] + MORE\n"
    _, _, enums = input_of(tmp_path, f"size: str = Input(default=START, choices={choices})", before)
    assert enums["size"]["enum"] == ["s", "l", "xl"]


def test_limits_from_names(tmp_path):
    made, _, _ = input_of(tmp_path, "n: int = Input(default=LIMIT // 2, ge=-1, le=LIMIT)", SIZES)
    assert (made["default"], made["minimum"], made["maximum"]) == (50, -1, 100)


def test_inputs_kept_in_a_class(tmp_path):
    before = """
        class Inputs:
            prompt = Input(description="what to say", max_length=9)
            def steps(default: int, le: int = 50):
                return Input(default=default, ge=1, le=le)
            @staticmethod
            def scale(default=1):
                return Input(default=default, description="how much")
        shared = Input(default=7)
    """
    parameters = (
        "prompt: str = Inputs.prompt, steps: int = Inputs.steps(5, le=9), scale: int = Inputs.scale(), n: int = shared"
    )
    schema = of(tmp_path, predictor(parameters, before=before))
    assert schema.errors == []
    assert line(list(schema.document["components"]["schemas"]["Input"]["properties"].values())) == (
        '[{"description":"what to say","maxLength":9,"title":"Prompt","type":"string","x-order":0},'
        '{"default":5,"maximum":9,"minimum":1,"title":"Steps","type":"integer","x-order":1},'
        '{"default":1,"description":"how much","title":"Scale","type":"integer","x-order":2},'
        '{"default":7,"title":"N","type":"integer","x-order":3}]'
    )


def test_a_signature_names_what_stands_above_it_in_its_class(tmp_path):
    source = """
        class Predictor(BasePredictor):
            STEPS = 20
            MOST = STEPS * 5
            sizes = ["s", "l"]
            seed = Input(default=3, description="start")
            started = open("/dev/null")
            def predict(
                self, steps: int = Input(default=STEPS, le=MOST), size: str = Input(default="s", choices=sizes), n: int = STEPS,
                seed: int = seed,
            ) -> str: ...
    """
    schema = of(tmp_path, source)
    assert schema.problems == []
    schemas = schema.document["components"]["schemas"]
    made = schemas["Input"]["properties"]
    assert (made["steps"]["default"], made["steps"]["maximum"], made["n"]["default"]) == (20, 100, 20)
    assert schemas["size"]["enum"] == ["s", "l"]
    assert (made["seed"]["default"], made["seed"]["description"]) == (3, "start")


OUTPUTS = [
    ("str", '{"title":"Output","type":"string"}'),
    ("int", '{"title":"Output","type":"integer"}'),
    ("float", '{"title":"Output","type":"number"}'),
    ("bool", '{"title":"Output","type":"boolean"}'),
    ("Path", '{"format":"uri","title":"Output","type":"string"}'),
    ("File", '{"format":"uri","title":"Output","type":"string"}'),
    ("list[Path]", '{"items":{"format":"uri","type":"string"},"title":"Output","type":"array"}'),
    ("List[str]", '{"items":{"type":"string"},"title":"Output","type":"array"}'),
    ("list", '{"items":{"type":"object"},"title":"Output","type":"array"}'),
    ("dict", '{"title":"Output","type":"object"}'),
    ("Any", '{"title":"Output","type":"object"}'),
    ("dict[str, int]", '{"additionalProperties":{"type":"integer"},"title":"Output","type":"object"}'),
    (
        "dict[str, list[dict[str, str]]]",
        '{"additionalProperties":{"items":{"additionalProperties":{"type":"string"},"type":"object"},"type":"array"},'
        '"title":"Output","type":"object"}',
    ),
    ("Iterator[str]", '{"items":{"type":"string"},"title":"Output","type":"array","x-cog-array-type":"iterator"}'),
    (
        "AsyncIterator[Path]",
        '{"items":{"format":"uri","type":"string"},"title":"Output","type":"array","x-cog-array-type":"iterator"}',
    ),
    (
        "ConcatenateIterator[str]",
        '{"items":{"type":"string"},"title":"Output","type":"array","x-cog-array-display":"concatenate",'
        '"x-cog-array-type":"iterator"}',
    ),
    (
        "AsyncConcatenateIterator[str]",
        '{"items":{"type":"string"},"title":"Output","type":"array","x-cog-array-display":"concatenate",'
        '"x-cog-array-type":"iterator"}',
    ),
]


@pytest.mark.parametrize(("returns", "wanted"), OUTPUTS, ids=[each[0] for each in OUTPUTS])
def test_an_output(tmp_path, returns, wanted):
    assert line(output_of(tmp_path, returns)) == wanted


@pytest.mark.parametrize(
    "model",
    [
        "class M(BaseModel):\n    x: int\n    y: Optional[str]\n",
        "import pydantic\nclass M(pydantic.BaseModel):\n    x: int\n    y: Optional[str] = None\n    _hidden: int = 1\n",
        "class Base(BaseModel):\n    x: int\n    kind: ClassVar[str] = 'm'\nclass M(Base):\n    y: 'str | None' = None\n",
        "class M(TypedDict):\n    x: int\n    y: NotRequired[Optional[str]]\n",
        "from dataclasses import dataclass, field\n@dataclass\nclass M:\n    x: int = field(repr=False)\n    y: Optional[str] = None\n",
    ],
    ids=["cog", "pydantic", "inherited", "TypedDict", "dataclass"],
)
def test_an_output_with_fields(tmp_path, model):
    assert line(output_of(tmp_path, "M", model)) == (
        '{"properties":{"x":{"title":"X","type":"integer"},"y":{"nullable":true,"title":"Y","type":"string"}},'
        '"required":["x"],"title":"Output","type":"object"}'
    )


def test_outputs_inside_of_outputs(tmp_path):
    before = """
        class Inner(BaseModel):
            score: float = 1.0
            image: Path
        class Tree(BaseModel):
            best_match: Inner
            others: list[Inner]
            children: "list[Tree]" = []
    """
    inner = (
        '"properties":{"score":{"title":"Score","type":"number"},"image":{"format":"uri","title":"Image","type":"string"}},'
        '"required":["image"],'
    )
    assert line(output_of(tmp_path, "Tree", before)) == (
        '{"properties":{"best_match":{' + inner + '"title":"Best Match","type":"object"},'
        '"others":{"items":{' + inner + '"type":"object"},"title":"Others","type":"array"},'
        '"children":{"items":{"type":"object"},"title":"Children","type":"array"}},'
        '"required":["best_match","others"],"title":"Output","type":"object"}'
    )


# The whole document

FIXED = (
    '"PredictionRequest":{"properties":{"id":{"title":"Id","type":"string"},"input":{"$ref":"#/components/schemas/Input"}},'
    '"title":"PredictionRequest","type":"object"},'
    '"PredictionResponse":{"properties":{"completed_at":{"format":"date-time","title":"Completed At","type":"string"},'
    '"created_at":{"format":"date-time","title":"Created At","type":"string"},"error":{"title":"Error","type":"string"},'
    '"id":{"title":"Id","type":"string"},"input":{"$ref":"#/components/schemas/Input"},'
    '"logs":{"title":"Logs","type":"string"},"metrics":{"title":"Metrics","type":"object"},'
    '"output":{"$ref":"#/components/schemas/Output"},'
    '"started_at":{"format":"date-time","title":"Started At","type":"string"},"status":{"title":"Status","type":"string"},'
    '"version":{"title":"Version","type":"string"}},"title":"PredictionResponse","type":"object"},'
    '"Status":{"description":"An enumeration.","enum":["starting","processing","succeeded","canceled","failed"],'
    '"title":"Status","type":"string"},'
    '"HTTPValidationError":{"properties":{"detail":{"items":{"$ref":"#/components/schemas/ValidationError"},'
    '"title":"Detail","type":"array"}},"title":"HTTPValidationError","type":"object"},'
    '"ValidationError":{"properties":{"loc":{"items":{"anyOf":[{"type":"string"},{"type":"integer"}]},"title":"Location",'
    '"type":"array"},"msg":{"title":"Message","type":"string"},"type":{"title":"Error Type","type":"string"}},'
    '"required":["loc","msg","type"],"title":"ValidationError","type":"object"}'
)
EMPTY = '{"content":{"application/json":{"schema":{}}},"description":"Successful Response"}'
INVALID = (
    '"422":{"content":{"application/json":{"schema":{"$ref":"#/components/schemas/HTTPValidationError"}}},'
    '"description":"Validation Error"}'
)
ROOT = (
    '"/":{"get":{"operationId":"root__get","responses":{"200":' + EMPTY + '},"summary":"Root"}},'
    '"/health-check":{"get":{"operationId":"healthcheck_health_check_get","responses":{"200":' + EMPTY + "},"
    '"summary":"Healthcheck"}}'
)


def operations(noun, capital, verb, streaming=""):
    return (
        f'"/{noun}s":{{"post":{{"description":"Run a single {noun} on the model",'
        f'"operationId":"{verb.lower()}_{noun}s_post","requestBody":{{"content":{{"application/json":{{"schema":'
        f'{{"$ref":"#/components/schemas/{capital}Request"}}}}}}}},"responses":{{"200":{{"content":{{"application/json":'
        f'{{"schema":{{"$ref":"#/components/schemas/{capital}Response"}}}}}},"description":"Successful Response"}},'
        f'{INVALID}}},"summary":"{verb}"{streaming}}}}},'
        f'"/{noun}s/{{{noun}_id}}/cancel":{{"post":{{"operationId":"cancel_{noun}s__{noun}_id__cancel_post",'
        f'"parameters":[{{"in":"path","name":"{noun}_id","required":true,"schema":{{"title":"{capital} Id","type":"string"}}}}],'
        f'"responses":{{"200":{EMPTY},{INVALID}}},"summary":"Cancel"}}}}'
    )


def test_the_whole_document(tmp_path):
    source = predictor(
        "s: str, m: str = Input(choices=['a', 'b'])", "ConcatenateIterator[str]", decorators="@streaming"
    )
    schema = of(tmp_path, source)
    assert line(schema.document) == (
        '{"components":{"schemas":{"Input":{"properties":{"s":{"title":"S","type":"string","x-order":0},'
        '"m":{"allOf":[{"$ref":"#/components/schemas/m"}],"x-order":1}},"required":["s","m"],"title":"Input","type":"object"},'
        '"Output":{"items":{"type":"string"},"title":"Output","type":"array","x-cog-array-display":"concatenate",'
        '"x-cog-array-type":"iterator"},'
        '"m":{"description":"An enumeration.","enum":["a","b"],"title":"m","type":"string"},' + FIXED + "}},"
        '"info":{"title":"Cog","version":"0.23.1"},"openapi":"3.0.2","paths":{'
        + ROOT + "," + operations("prediction", "Prediction", "Predict", ',"x-cog-streaming":true') + "}}"
    )  # fmt: skip
    assert (schema.is_generator, schema.streaming, schema.is_async, schema.concurrency) == (True, True, False, None)


def test_a_predictor_without_inputs_requires_none(tmp_path):
    source = "class Predictor(BasePredictor):\n    def run(self) -> str: ..."
    made = of(tmp_path, source).document["components"]["schemas"]["Input"]
    assert line(made) == '{"properties":{},"title":"Input","type":"object"}'


def test_a_model_that_can_be_trained(tmp_path):
    train = """
        class TrainingOutput(BaseModel):
            weights: Path
        def train(data: Path, epochs: int = Input(default=3, ge=1), m: str = Input(choices=["c", "d"])) -> TrainingOutput: ...
    """
    schema = of(tmp_path, predictor("m: str = Input(choices=['a', 'b'])"), train)
    assert schema.errors == []
    schemas = schema.document["components"]["schemas"]
    assert line(schemas["TrainingInput"]) == (
        '{"properties":{"data":{"format":"uri","title":"Data","type":"string","x-order":0},'
        '"epochs":{"default":3,"minimum":1,"title":"Epochs","type":"integer","x-order":1},'
        # The predictor has an `m` of its own, with other values.
        '"m":{"allOf":[{"$ref":"#/components/schemas/Training_m"}],"x-order":2}},'
        '"required":["data","m"],"title":"TrainingInput","type":"object"}'
    )
    assert line(schemas["TrainingOutput"]) == (
        '{"properties":{"weights":{"format":"uri","title":"Weights","type":"string"}},"required":["weights"],'
        '"title":"Output","type":"object"}'
    )
    assert (schemas["m"]["enum"], schemas["Training_m"]["enum"]) == (["a", "b"], ["c", "d"])
    wanted = (
        FIXED.replace("/Input", "/TrainingInput")
        .replace("/Output", "/TrainingOutput")
        .replace("Prediction", "Training")
    )
    assert line({name: schemas[name] for name in ("TrainingRequest", "TrainingResponse")})[1:-1] in wanted
    assert line(schema.document["paths"]) == (
        "{" + ROOT + "," + operations("prediction", "Prediction", "Predict") + ","
        + operations("training", "Training", "Train") + "}"
    )  # fmt: skip
