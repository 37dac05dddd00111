//! Dialects: what other systems' projects and clients speak, translated to the core's nouns. Translation only: nothing here
//! holds state or does I/O.

pub mod cog;
pub mod replicate;
