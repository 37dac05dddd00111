//! Autoscalers compared.
