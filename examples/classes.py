"""A model that is loaded once per container and then asked many times: which language is this?

clunk run examples/classes.py
clunk run examples/classes.py --text "wie geht es den Kindern?"
"""

import math
import time
from collections import Counter

import clunk

app = clunk.App("classes")

SAMPLES = {
    "English": "all human beings are born free and equal in dignity and rights they are endowed with reason and conscience "
    "and should act towards one another in a spirit of brotherhood where is the house of the old teacher",
    "German": "alle menschen sind frei und gleich an würde und rechten geboren sie sind mit vernunft und gewissen begabt "
    "und sollen einander im geiste der brüderlichkeit begegnen wo ist das haus des alten lehrers",
    "Spanish": "todos los seres humanos nacen libres e iguales en dignidad y derechos y dotados como están de razón y "
    "conciencia deben comportarse fraternalmente los unos con los otros dónde está la casa del viejo maestro",
    "French": "tous les êtres humains naissent libres et égaux en dignité et en droits ils sont doués de raison et de "
    "conscience et doivent agir les uns envers les autres dans un esprit de fraternité où est la maison du vieux maître",
}
SENTENCES = ["Where is the station?", "Wo ist der Bahnhof?", "¿Dónde está la estación?", "Où est la gare ?"]


@app.cls(scaledown_window=10)
class Languages:
    # Each value has containers of its own: a model of letters is not one of triples.
    letters: int = clunk.parameter(default=3)

    @clunk.enter()
    def load(self):
        """Counts the runs of letters of each language; runs once per container, before the first call."""
        began = time.perf_counter()
        self.counts = {language: Counter(self.pieces(text)) for language, text in SAMPLES.items()}
        self.answered = 0
        print(f"model of {self.letters} letters loaded in {(time.perf_counter() - began) * 1e3:.1f} ms")

    def pieces(self, text):
        text = f" {text.lower()} "
        return [text[at : at + self.letters] for at in range(len(text) - self.letters + 1)]

    @clunk.method()
    def guess(self, text: str) -> tuple:
        """The most likely language, and how much more likely it is than the next, as a logarithm."""
        self.answered += 1
        scores = []
        for language, counts in self.counts.items():
            # What a language never showed is taken to be rare in it, not impossible.
            total = sum(counts.values())
            scores.append((sum(math.log((counts[piece] + 0.5) / total) for piece in self.pieces(text)), language))
        (best, language), (second, _) = sorted(scores, reverse=True)[:2]
        return language, best - second

    @clunk.exit()
    def unload(self):
        print(f"model of {self.letters} letters answered {self.answered} times")


@app.local_entrypoint()
def main(text: str = ""):
    for letters in (1, 3):
        model = Languages(letters=letters)
        for sentence, (language, margin) in zip(SENTENCES, model.guess.map(SENTENCES)):
            print(f"  {letters} letters: {sentence!r} is {language} (by {margin:.1f})")
    if text:
        print(f"{text!r} is {Languages().guess.remote(text)[0]}")
