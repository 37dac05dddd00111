//! One machine's replicas: the runner link, logs, lifecycles.
