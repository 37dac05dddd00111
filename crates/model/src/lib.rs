//! The HTTP server of one model: Cog's container API in front of a runner.
