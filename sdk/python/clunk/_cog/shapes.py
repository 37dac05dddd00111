"""Types as JSON has them, and their OpenAPI."""

PRIMITIVES = {
    "bool": {"type": "boolean"},
    "float": {"type": "number"},
    "int": {"type": "integer"},
    "str": {"type": "string"},
    "Path": {"format": "uri", "type": "string"},
    "Secret": {"format": "password", "type": "string", "writeOnly": True, "x-cog-secret": True},
    "Any": {"type": "object"},
    "datetime": {"format": "date-time", "type": "string"},
    "date": {"format": "date", "type": "string"},
    "time": {"format": "time", "type": "string"},
    "UUID": {"format": "uuid", "type": "string"},
}


class Ordered(dict):
    """An object whose keys keep their order; those of all others are sorted."""


class Shape:
    """One type. `kind` is a name of `PRIMITIVES`, or array, dict, object, iterator, union, enum or none."""

    def __init__(self, kind, nullable=False, items=None, variants=(), values=(), fields=None, **more):
        self.kind = kind
        self.nullable = nullable
        # Of an array or iterator its elements, of a dict its values; None when nothing is said about them.
        self.items = items
        self.variants = variants
        # Of an enum.
        self.values = values
        # Of an object: name to (shape, whether it is required).
        self.fields = fields
        # Of an array that was a tuple: how many elements; of one that was a set: each only once.
        self.length = more.get("length")
        self.unique = more.get("unique", False)
        # Of an iterator: its chunks are one text.
        self.concatenate = more.get("concatenate", False)
        # Of an enum or object: the class it comes from, for messages.
        self.name = more.get("name")

    def or_none(self):
        self.nullable = True
        return self

    @property
    def is_iterator(self):
        return self.kind == "iterator"

    @property
    def element(self):
        """What single values are: of an array its elements."""
        return self.items.element if self.kind == "array" and self.items is not None else self

    def json(self):
        """The OpenAPI of the type, without a title."""
        made = dict(PRIMITIVES[self.kind]) if self.kind in PRIMITIVES else getattr(self, "_" + self.kind)()
        if self.nullable:
            made["nullable"] = True
        return made

    def _array(self):
        made = {"items": self.items.json() if self.items is not None else {"type": "object"}, "type": "array"}
        if self.length is not None:
            made["maxItems"] = made["minItems"] = self.length
        if self.unique:
            made["uniqueItems"] = True
        return made

    def _dict(self):
        made = {"type": "object"}
        if self.items is not None:
            made["additionalProperties"] = self.items.json()
        return made

    def _object(self):
        properties = Ordered()
        for name, (shape, _) in self.fields.items():
            properties[name] = {**shape.json(), "title": title(name)}
        made = {"properties": properties, "type": "object"}
        required = [name for name, (_, is_required) in self.fields.items() if is_required]
        if required:
            made["required"] = required
        return made

    def _iterator(self):
        items = self.items.json() if self.items is not None else {"type": "object"}
        made = {"items": items, "type": "array", "x-cog-array-type": "iterator"}
        if self.concatenate:
            made["x-cog-array-display"] = "concatenate"
        return made

    def _union(self):
        variants = [variant.json() for variant in self.variants]
        if self.nullable:
            for variant in variants:
                variant["nullable"] = True
        return {"anyOf": variants}

    def _enum(self):
        made = {"enum": list(self.values)}
        kind = json_type(self.values)
        if kind:
            made["type"] = kind
        return made

    def _none(self):
        return {"nullable": True, "type": "object"}

    @property
    def shown(self):
        """The type in words of Python."""
        if self.kind == "array":
            inner = self.items.shown if self.items is not None else "Any"
            return f"set[{inner}]" if self.unique else f"list[{inner}]"
        if self.kind == "enum":
            return self.name or "Literal"
        return {"object": self.name, "union": "Union", "iterator": "Iterator", "none": "None"}.get(self.kind, self.kind)


def json_type(values):
    """The one JSON type that all of these values have, or None."""
    kinds = {type(value) for value in values}
    if kinds == {int, float}:
        kinds = {float}
    names = {str: "string", int: "integer", float: "number", bool: "boolean"}
    return names.get(kinds.pop()) if len(kinds) == 1 else None


def title(name):
    """`num_steps` is `Num Steps`."""
    return " ".join(part[:1].upper() + part[1:] for part in name.split("_"))


def number(value):
    """A number as the document has it: whole ones without a fraction. Other values as they are."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e21:
        return int(value)
    if isinstance(value, list):
        return [number(item) for item in value]
    if isinstance(value, dict):
        return {key: number(item) for key, item in value.items()}
    return value
