//! A small registry of our own, to show and to test: a server, and something to put into it.

pub mod builder;
pub mod pull;
pub mod sample;
pub mod server;
pub mod store;
