//! Plots for a terminal.
