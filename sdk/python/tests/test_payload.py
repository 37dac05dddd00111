"""Values in pieces."""

import array
import pickle
import random

import pytest

from clunk._payload import dump, explain_arguments, load
from clunk._pieces import send_pieces


@pytest.mark.parametrize("seed", range(50))
def test_all_of_the_pieces_are_sent_in_order(seed):
    rng = random.Random(seed)
    pieces = []
    for _ in range(rng.choice([0, 1, 5, 3000])):
        data = bytes(rng.getrandbits(8) for _ in range(rng.choice([0, 1, 7, 40])))
        pieces.append(rng.choice([bytes, bytearray, memoryview])(data))
    pieces.append(memoryview(array.array("I", [1, 2, 3])))
    whole = b"".join(pieces)
    received = bytearray()

    def send(batch):
        assert 0 < len(batch) <= 1024
        data = b"".join(batch)
        taken = data[: rng.choice([1, 3, 100, len(data)])]
        received.extend(taken)
        return len(taken)

    sent = rng.randrange(len(whole) + 1)
    send_pieces(send, pieces, sent)
    assert bytes(received) == whole[sent:]


def test_large_bytes_are_not_copied():
    data = bytes(1 << 20)
    pieces = dump(((data,), {"k": data[:-1]}))
    assert any(part is data for part in pieces.parts)
    whole = b"".join(pieces.parts)
    assert pieces.size == len(whole)
    assert pickle.loads(whole) == ((data,), {"k": data[:-1]})
    assert load(whole) == pickle.loads(whole)


def test_the_argument_without_a_pickle_is_found():
    bad = lambda: 1
    name, value, error = explain_arguments((1, bad), {}, ("a", "b"))
    assert (name, value) == ("b", bad)
    assert isinstance(error, (pickle.PicklingError, AttributeError))
    assert explain_arguments((1,), {"k": bad})[0] == "k"
    assert explain_arguments((1, bad), {})[0] == "number 2"
    assert explain_arguments((1,), {"k": 2}) is None
