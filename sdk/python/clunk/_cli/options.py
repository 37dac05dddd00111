"""Options of the verbs for models: switches, options with a value, and places, in any order."""

from .errors import DONE, Exit, usage


class Grammar:
    """What a verb takes.

    `switches`, `values` and `lists` map words of the command line to names: True, the text that follows, and a list
    of such texts. `places` are the names of the words that are no options, in their order; the first is needed.
    """

    def __init__(self, verb, help_text, places, switches, values, lists=None, example=None):
        self.verb = verb
        self.help = help_text
        self.places = places
        self.switches = {"--json": "json", "-q": "quiet", "--quiet": "quiet", **switches}
        self.values = values
        self.lists = lists or {}
        # How the verb is called, for whoever did not.
        self.example = example or f"clunk {verb} DIR"

    def read(self, words):
        """The options by name; what was not given is None, False or an empty list."""
        options = Options(self)
        words = list(words)
        while words:
            word = words.pop(0)
            flag, equals, value = word.partition("=")
            if word in self.switches:
                setattr(options, self.switches[word], True)
            elif word in ("-h", "--help"):
                print(self.help, end="")
                raise Exit(DONE)
            elif flag in self.values or flag in self.lists:
                if not equals and not words:
                    raise usage(f"{flag} needs a value")
                options.give(self, flag, value if equals else words.pop(0))
            elif word.startswith("-") and word != "-":
                raise usage(f"unknown option {word}", self.nearest(flag))
            else:
                options.place(self, word)
        return options

    def nearest(self, flag):
        from .arguments import nearest

        return nearest(flag, [*self.switches, *self.values, *self.lists]) or f"clunk {self.verb} --help"


class Options:
    def __init__(self, grammar):
        for name in [*grammar.places, *grammar.values.values()]:
            setattr(self, name, None)
        for name in grammar.switches.values():
            setattr(self, name, False)
        for name in grammar.lists.values():
            setattr(self, name, [])

    def give(self, grammar, flag, value):
        if flag in grammar.lists:
            getattr(self, grammar.lists[flag]).append(value)
        elif value:
            setattr(self, grammar.values[flag], value)
        else:
            raise usage(f"{flag} needs a value")

    def place(self, grammar, word):
        for name in grammar.places:
            if getattr(self, name) is None:
                setattr(self, name, word)
                return
        hint = grammar.example
        if "=" in word and "-i" in grammar.lists:
            hint = f"clunk {grammar.verb} {getattr(self, grammar.places[0])} -i {word}"
        raise usage(f"unexpected argument {word!r}", hint)
