//! The agent as a library, so that tests and fuzz targets reach its parts; `main.rs` is the program.

pub mod bootstrap;
pub mod cli;
pub mod command;
pub mod config;
pub mod desired;
pub mod driver;
pub mod envoy_admin;
pub mod logs;
pub mod process;
pub mod signals;
pub mod status;
pub mod supervisor;
