class Retries:
    """For `retries=`: the first delay is `initial_delay`, each later one is the one before times `backoff_coefficient`.

    Delays are in seconds.
    """

    max_retries: int
    backoff_coefficient: float
    initial_delay: float
    max_delay: float
    def __init__(
        self,
        *,
        max_retries: int,
        backoff_coefficient: float = 2.0,
        initial_delay: float = 1.0,
        max_delay: float = 60.0,
    ) -> None: ...
