//! Replicate's HTTP API v1: its objects, made from the core's records.
