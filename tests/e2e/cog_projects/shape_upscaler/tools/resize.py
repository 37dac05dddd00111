"""A module beside the predictor, found by a path that is added at import."""


def repeat(data, times):
    return data * times
