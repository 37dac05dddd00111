"""The OpenAPI document of a model, in the layout that Cog's own tools write."""

from . import COG_VERSION
from .predictor import TRAIN
from .shapes import Ordered, Shape, json_type, number, title

_REF = "#/components/schemas/"
_FIXED = ("Input", "Output", "TrainingInput", "TrainingOutput", "PredictionRequest", "PredictionResponse")
_FIXED += ("TrainingRequest", "TrainingResponse", "Status", "HTTPValidationError", "ValidationError")
_WORDS = {
    "predict": ("/predictions", "prediction", "Prediction", "", "Predict"),
    "train": ("/trainings", "training", "Training", "Training", "Train"),
}


def document(targets, cog_version=COG_VERSION):
    """The whole document for a predictor, a trainer, or both."""
    schemas, paths = Ordered(), Ordered()
    for target in targets:
        for name, schema in _components(target, schemas).items():
            schemas.setdefault(name, schema)
        for path, operations in _paths(target).items():
            paths.setdefault(path, operations)
    made = {
        "components": {"schemas": schemas},
        "info": {"title": "Cog", "version": cog_version},
        "openapi": "3.0.2",
        "paths": paths,
    }
    return in_order(made)


def in_order(value):
    """The same with the keys of every object sorted, but for those whose order says something."""
    if isinstance(value, Ordered):
        return Ordered((key, in_order(item)) for key, item in value.items())
    if isinstance(value, dict):
        return {key: in_order(value[key]) for key in sorted(value)}
    if isinstance(value, list):
        return [in_order(item) for item in value]
    return value


def _components(target, taken):
    _, _, capital, prefix, _ = _WORDS[target.mode]
    made = Ordered()
    properties, enums = Ordered(), Ordered()
    for field in target.fields:
        properties[field.name] = _property(field, enums, taken, prefix)
    entry = {"properties": properties, "title": prefix + "Input", "type": "object"}
    required = [field.name for field in target.fields if field.required]
    if required:
        entry["required"] = required
    made[prefix + "Input"] = entry
    made[prefix + "Output"] = {**target.output.json(), "title": "Output"}
    made.update(enums)
    made[f"{capital}Request"] = _object(
        f"{capital}Request", {"id": _text("Id"), "input": {"$ref": f"{_REF}{prefix}Input"}}
    )
    made[f"{capital}Response"] = _object(f"{capital}Response", _response(prefix))
    made["Status"] = {
        "description": "An enumeration.",
        "enum": ["starting", "processing", "succeeded", "canceled", "failed"],
        "title": "Status",
        "type": "string",
    }
    detail = {"items": {"$ref": f"{_REF}ValidationError"}, "title": "Detail", "type": "array"}
    made["HTTPValidationError"] = _object("HTTPValidationError", {"detail": detail})
    step = {"anyOf": [{"type": "string"}, {"type": "integer"}]}
    parts = {
        "loc": {"items": step, "title": "Location", "type": "array"},
        "msg": _text("Message"),
        "type": _text("Error Type"),
    }
    made["ValidationError"] = {**_object("ValidationError", parts), "required": ["loc", "msg", "type"]}
    return made


def _object(name, properties):
    return {"properties": properties, "title": name, "type": "object"}


def _text(name):
    return {"title": name, "type": "string"}


def _response(prefix):
    def time(name):
        return {"format": "date-time", "title": name, "type": "string"}

    return {
        "completed_at": time("Completed At"),
        "created_at": time("Created At"),
        "error": _text("Error"),
        "id": _text("Id"),
        "input": {"$ref": f"{_REF}{prefix}Input"},
        "logs": _text("Logs"),
        "metrics": {"title": "Metrics", "type": "object"},
        "output": {"$ref": f"{_REF}{prefix}Output"},
        "started_at": time("Started At"),
        "status": _text("Status"),
        "version": _text("Version"),
    }


# Inputs


def _property(field, enums, taken, prefix):
    """One input. Its choices become a component of their own, named by it."""
    made = {"x-order": field.order}
    choices, shape = field.choices, field.shape
    is_list = shape.kind == "array" and shape.items is not None and shape.items.kind != "array"
    if choices is not None and (is_list or shape.kind != "array"):
        component = {
            "description": "An enumeration.",
            "enum": [number(choice) for choice in choices],
            "title": field.name,
        }
        kind = Shape(shape.element.kind).json().get("type") if shape.element.kind != "enum" else json_type(choices)
        if kind:
            component["type"] = kind
        name = _component_name(field.name, component, taken, prefix)
        enums[name] = component
        if is_list:
            made.update({**shape.json(), "items": _reference(shape, name), "title": title(field.name)})
        else:
            made["allOf"] = [{"$ref": _REF + name}]
    else:
        made.update(shape.json(), title=title(field.name))
    _limits(field, made["items"] if is_list and "$ref" not in made["items"] else made)
    if field.has_default:
        made["default"] = number(field.default)
    if field.nullable:
        made["nullable"] = True
    for key, name in (("description", "description"), ("accept", "x-cog-accept")):
        if key in field.settings:
            made[name] = field.settings[key]
    if field.settings.get("deprecated"):
        made["deprecated"] = True
    return made


def _reference(shape, name):
    """Elements of a list that are one of an enumeration."""
    reference = {"$ref": _REF + name}
    return {"allOf": [reference], "nullable": True} if shape.items.nullable else reference


def _component_name(name, component, taken, prefix):
    """The input's own name, unless it means something else in this document."""
    if name in _FIXED or taken.get(name, component) != component:
        return f"{prefix or 'Input'}_{name}"
    return name


def _limits(field, made):
    names = {"ge": "minimum", "le": "maximum", "min_length": "minLength", "max_length": "maxLength", "regex": "pattern"}
    for key, name in names.items():
        if key in field.settings:
            made[name] = number(field.settings[key])


# Paths


def _paths(target):
    path, noun, capital, _, verb = _WORDS[target.mode]
    operation = {
        "description": f"Run a single {noun} on the model",
        "operationId": f"{verb.lower()}_{noun}s_post",
        "requestBody": {"content": _json({"$ref": f"{_REF}{capital}Request"})},
        "responses": _answers({"$ref": f"{_REF}{capital}Response"}, True),
        "summary": verb,
    }
    if target.streaming and target.mode != TRAIN:
        operation["x-cog-streaming"] = True
    parameter = f"{noun}_id"
    cancel = {
        "operationId": f"cancel_{noun}s__{parameter}__cancel_post",
        "parameters": [{"in": "path", "name": parameter, "required": True, "schema": _text(title(parameter))}],
        "responses": _answers({}, True),
        "summary": "Cancel",
    }
    made = Ordered()
    made["/"] = {"get": {"operationId": "root__get", "responses": _answers({}), "summary": "Root"}}
    made["/health-check"] = {
        "get": {"operationId": "healthcheck_health_check_get", "responses": _answers({}), "summary": "Healthcheck"}
    }
    made[path] = {"post": operation}
    made[f"{path}/{{{parameter}}}/cancel"] = {"post": cancel}
    return made


def _json(schema):
    return {"application/json": {"schema": schema}}


def _answers(schema, validates=False):
    made = {"200": {"content": _json(schema), "description": "Successful Response"}}
    if validates:
        error = {"$ref": f"{_REF}HTTPValidationError"}
        made["422"] = {"content": _json(error), "description": "Validation Error"}
    return made
