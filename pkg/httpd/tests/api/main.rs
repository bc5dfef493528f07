//! The API over a realm in memory, asked with raw bytes.

mod common;
mod connections;
mod requests;
mod streams;
