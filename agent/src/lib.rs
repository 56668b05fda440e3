//! The agent as a library, so that tests and fuzz targets reach its parts; `main.rs` is the program.

pub mod admin_proxy;
pub mod bootstrap;
pub mod cgroup;
pub mod cli;
pub mod command;
pub mod config;
pub mod desired;
pub mod driver;
pub mod envoy_admin;
pub mod handover;
pub mod hot_restart;
pub mod lifecycle;
mod listen;
pub mod logs;
pub mod peer;
pub mod process;
pub mod report;
pub mod signals;
mod sockets;
pub mod status;
pub mod supervisor;
