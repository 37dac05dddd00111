//! Verbs against a server that answers what a test tells it to.

mod apps;
mod calls;
mod containers;
mod fake;
mod open;
mod projects;
mod records;
mod status;
mod usage;
mod words;
