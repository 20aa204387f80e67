//! The documents of the contract: `schemas/mqtt/v1/`, and the generated parts of `docs/mqtt.md`.
//!
//! Compiled for tests only. Each document is made from the table of topics and from the payload types, and a
//! test compares the file in the repository with it. This writes the files anew instead:
//! `RETINAD_WRITE_DOCUMENTS=1 cargo test --release contract::documents`

mod asyncapi;
mod conformance;
mod examples;
mod fields;
mod files;
mod manual;
mod mentions;
mod requests;
mod schemas;
