//! The HTTP API and the control plane.
