//! Recipes to layers: Debian bootstrap, OCI pull, build steps, trees.
