//! One file per verb.

pub mod app;
pub mod call;
pub mod cog_config;
pub mod completions;
pub mod container;
pub mod doctor;
pub mod down;
pub mod explain;
pub mod image;
pub mod init;
pub mod logs;
pub mod model;
pub mod model_server;
pub mod open;
pub mod run;
pub mod serve;
pub mod shell;
pub mod status;
pub mod up;
pub mod usage;
pub mod version;
